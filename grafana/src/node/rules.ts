// NAT rules and kernel.
import type { DashboardBuilder } from "@grafana/grafana-foundation-sdk/dashboard";
import { markState, sel } from "../expr.js";
import { MARK, YESNO } from "../mappings.js";
import { row, table, timeline } from "../panels.js";

const height = 6;
const why = "no data: no NAT rules here, or not readable (CAP_NET_ADMIN; legacy iptables also CAP_DAC_READ_SEARCH)";

const marks = timeline({
  title: "Masquerade mark over time", unit: "short", width: 10, height, why,
  description: "By family of the inner packet and by backend. cleared: the mark is cleared before MASQUERADE. kept: kube-proxy's old rules. " +
    "bypassed: another MASQUERADE or SNAT runs ahead. Do: `vxlan_exporter check` quotes the rule that decides.",
}, [[markState("family, backend"), "{{family}} {{backend}}"]], MARK);

const random = timeline({
  title: "MASQUERADE --random-fully", unit: "short", width: 7, height, why,
  description: "From the kernel's own rule, which an old iptables-save may not print. yes: the source port really changes, so the checksum really goes wrong.",
}, [[`max by (family, backend) (${sel("vxlan_nat_random_fully")})`, "{{family}} {{backend}}"]], YESNO);

const kernel = table({
  title: "Kernel: does NAT spoil outer checksums?", unit: "short", width: 7, height, why: "no data: the kernel collector is off",
  description: "By release, offloaded_checksum is never fixed. A self-test proves it on the running kernel: `vxlan_exporter selftest --write`.",
}, [[`max by (variant, verdict, evidence) (${sel("vxlan_kernel_nat_checksum_bug")} == 1)`]],
{ variant: "variant", verdict: "verdict", evidence: "evidence" }, ["Value"]);

export function rules(d: DashboardBuilder): void {
  d.withRow(row("NAT rules and kernel"));
  for (const panel of [marks, random, kernel]) {
    d.withPanel(panel);
  }
}
