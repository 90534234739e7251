// The receivers' half and the senders' half of the failure on one time axis: what rises together belongs together.
import { AxisPlacement, GraphTransform } from "@grafana/grafana-foundation-sdk/common";
import { csumErrors, perMinute, snatNow, snatSeen, wireBadIn } from "../expr.js";
import { POINTS, column, fixed, lines } from "../panels.js";

export const both = lines({
  title: "Receivers' bad checksums (up) against senders' NATed VXLAN flows (down)", unit: "suffix: /min", width: 17, height: 10,
  why: "no data: neither checksum counters nor connection tracking are scraped",
  description: "The whole fleet. Red, upwards: UDP packets dropped for a bad checksum. Downwards: source-NATed VXLAN flows, new ones (left axis) and " +
    "those tracked now (right axis). The two rise together: it is this failure. Red alone: other UDP, or a sender without an exporter. " +
    "Below alone: NAT that hurts nobody yet, or a firewall that hides it (\"Blind spot\"). Do: type the commands of the table above.",
}, [
  [perMinute(csumErrors), "receivers: bad UDP checksums"],
  [perMinute(wireBadIn), "receivers: bad VXLAN packets on the wire"],
  [perMinute(snatSeen), "senders: new NATed VXLAN flows"],
  [`sum(${snatNow})`, "senders: NATed VXLAN flows now"],
])
  .maxDataPoints(2 * POINTS)
  .axisCenteredZero(true)
  .withOverride(column("receivers: bad UDP checksums", { ...fixed("red"), "custom.fillOpacity": 45, "custom.lineWidth": 2 }))
  .withOverride(column("receivers: bad VXLAN packets on the wire", { ...fixed("orange"), "custom.fillOpacity": 0, "custom.lineStyle": { fill: "dash", dash: [6, 4] } }))
  .withOverride(column("senders: new NATed VXLAN flows", {
    ...fixed("purple"), "custom.transform": GraphTransform.NegativeY, "custom.fillOpacity": 45,
  }))
  .withOverride(column("senders: NATed VXLAN flows now", {
    ...fixed("blue"), unit: "short", "custom.transform": GraphTransform.NegativeY, "custom.axisPlacement": AxisPlacement.Right,
    "custom.axisLabel": "flows now", "custom.fillOpacity": 0, "custom.lineInterpolation": "stepAfter",
  }));
