// First row: does this node send or receive bad packets, by which variant and device, what to type.
import type { DashboardBuilder } from "@grafana/grafana-foundation-sdk/dashboard";
import { NOW, csumErrors, dev, exposure, markState, perMinute, rise, snatNow, snatSeen, wireBadIn } from "../expr.js";
import { EXPOSURE, MARK, NODE, VARIANT } from "../mappings.js";
import { SENDS, SUFFERS, coloredCell, column, fixed, rightAxis, series, stat, steps, table, text, timeline } from "../panels.js";

const height = 5;
const worst = `max(${exposure("instance, device, variant")})`;

const stats = [
  stat({
    title: "This node", unit: "short", width: 5, height, why: "no data: no VXLAN device was judged, or the exporter is not scraped",
    description: "The worst of its devices. SPOILS PACKETS: what starts here and is NATed leaves with a bad checksum; type the command below. " +
      "exposed: every condition holds and no NATed flow is there yet. unknown: a condition could not be read: `vxlan_exporter check`.",
  }, [[worst]], NODE),
  stat({
    title: "NATs its VXLAN packets", unit: "suffix: flows", width: 5, height,
    why: "no data: connection tracking is not readable (CAP_NET_ADMIN) or not in the kernel",
    description: "Source-NATed flows to VXLAN ports that are tracked now: the cause. They live 30 s past their last packet. " +
      "Do: cure the NAT rules; `vxlan_exporter check` names the rule.",
  }, [[`sum(${snatNow})`]]).thresholds(steps("green", [1, "red"])),
  stat({
    title: "Received bad checksums", unit: "short", width: 5, height, why: "no data: the kernel's UDP counters are not scraped",
    description: "UDP packets dropped for a bad checksum in the last 5 minutes, or bad VXLAN packets seen on the wire where the probe runs " +
      "and saw more. They come from another node: see the fleet's dashboard.",
  }, [[`max(sum by (instance) (${rise(csumErrors, NOW)}) or label_replace(sum by (instance) (${rise(wireBadIn, NOW)}), "by", "wire", "", ""))`]])
    .decimals(0).thresholds(steps("green", [1, "red"])),
  stat({
    title: "Active devices, by variant", unit: "short", width: 5, height, why: "no data: no VXLAN device was judged",
    description: "zero_checksum (A): outer checksum off, kernel without the fix of 5.7. offloaded_checksum (B): outer checksum on, every kernel.",
  }, [[`sum by (variant) (${dev("vxlan_device_exposure", 'state="active"')})`, "{{variant}}"]]).thresholds(steps("green", [1, "red"])),
  stat({
    title: "Masquerade mark", unit: "short", width: 4, height, why: "no data: NAT rules not readable (CAP_NET_ADMIN), or there are none",
    description: "The worst over families and backends. kept: kube-proxy's old rules keep the mark. bypassed: another MASQUERADE or SNAT " +
      "runs ahead of kube-proxy's. Do: upgrade kube-proxy, or reorder the rules.",
  }, [[`max(${markState("family, backend")})`]], MARK),
];

// Only plain device names go into a command: others need quotes, and `check` prints those.
const rows = exposure("device, variant");
const typed = (rows: string, command: string): string => `label_replace(${rows}, "command", "${command}", "", "")`;
const command =
  `label_replace(${typed(`${rows} > 1`, "vxlan_exporter check")}, "command", "ethtool -K $1 tx-checksum-ip-generic off", "device", "([A-Za-z0-9_.@-]+)")` +
  ` or ${typed(`${rows} == 1`, "vxlan_exporter check")} or ${typed(`${rows} == 0`, "nothing")}`;

const todo = table({
  title: "Devices, and what to type here", unit: "short", width: 14, height: 7, why: "No VXLAN device was judged: there is none, or the device collector fails.",
  description: "State of each device for each variant. active and exposed: type the command as root; it cures until the CNI makes the device anew. " +
    "clear: a condition is known to be absent; `vxlan_exporter check` says which.",
}, [[command]], { device: "device", variant: "variant", Value: "exposure", command: "type here, as root" })
  .withTransformation({ id: "sortBy", options: { fields: {}, sort: [{ field: "exposure", desc: true }] } })
  .withOverride(column("device", { "custom.width": 120 }))
  .withOverride(column("variant", { mappings: VARIANT.map(neutral), "custom.width": 190 }))
  .withOverride(column("exposure", { mappings: EXPOSURE, ...coloredCell, "custom.width": 100 }));

/** A variant that is listed is not one that is active. */
function neutral<M>(m: M): M {
  return JSON.parse(JSON.stringify(m).replace(/"color":"\w+"/g, '"color":"text"')) as M;
}

const what = text({ title: "What to do on $instance", width: 10, height: 7, description: "The short form of the runbook." },
  `1. \`vxlan_exporter check\` names the variant, the deciding rule and the remedy.
2. \`ethtool -K DEVICE tx-checksum-ip-generic off\` cures new and stalled connections; costs overlay throughput.
3. \`systemctl enable --now vxlan_exporter-guard\` keeps it when the CNI makes the device anew.

**For good:** kube-proxy 1.16.13, 1.17.9, 1.18.6, 1.19 or later, no other MASQUERADE ahead of it; then \`conntrack -D -p udp --dport PORT\`.

Receives bad checksums, and NATs nothing? See the [fleet](/d/vxlan-fleet/). [Runbook](\${runbook}/RUNBOOK.md)`);

const received = series({
  title: "Bad checksums received", unit: "cpm", width: 8, height: 7, why: "no data: no UDP counters are scraped",
  description: "What this node suffers, by the kernel's counter. With NATed flows of its own beside: it is sender and receiver.",
}, [[perMinute(csumErrors), "bad UDP checksums"]])
  .withOverride(column("bad UDP checksums", { ...fixed(SUFFERS), "custom.fillOpacity": 45 }));

const sends = series({
  title: "Own VXLAN flows NATed", unit: "cpm", width: 8, height: 7, why: "no data: no connection tracking is scraped",
  description: "What this node causes: new NATed flows, and on the right axis those that are tracked now.",
}, [
  [perMinute(snatSeen), "new"],
  [`sum(${snatNow})`, "tracked now"],
])
  .withOverride(column("new", { ...fixed(SENDS), "custom.fillOpacity": 45 }))
  .withOverride(column("tracked now", { ...rightAxis("tracked now"), ...fixed("blue") }));

const states = timeline({
  title: "Exposure of each device, by variant", unit: "short", width: 8, height: 7, why: "no data: no VXLAN device was judged in the shown time",
  description: "clear: a condition is known to be absent. exposed: all hold, no NATed flow. active: all hold and NATed flows are there. " +
    "unknown: a condition could not be read. When it left clear is when something was changed.",
}, [[exposure("device, variant"), "{{device}} {{variant}}"]], EXPOSURE);

export function verdict(d: DashboardBuilder): void {
  for (const panel of [...stats, todo, what, received, sends, states]) {
    d.withPanel(panel);
  }
}

