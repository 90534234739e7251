// The receivers' half and the senders' half of the failure, side by side on one time axis: what rises together belongs together.
import { csumErrors, perMinute, snatNow, snatSeen, wireBadIn } from "../expr.js";
import { POINTS, SENDS, SUFFERS, column, fixed, rightAxis, series } from "../panels.js";

const height = 9;

export const badChecksums = series({
  title: "Receivers: bad checksums", unit: "cpm", width: 9, height,
  why: "no data: no checksum counters are scraped",
  description: "The whole fleet: UDP packets dropped for a bad checksum, and bad VXLAN packets that packet captures saw. Rises together with the " +
    "senders' NATed flows beside: it is this failure. Alone: other UDP, or a sender without an exporter. Do: type the commands of the table above.",
}, [
  [perMinute(csumErrors), "bad UDP checksums"],
  [perMinute(wireBadIn), "bad VXLAN packets on the wire"],
])
  .maxDataPoints(POINTS)
  .withOverride(column("bad UDP checksums", { ...fixed(SUFFERS), "custom.fillOpacity": 45 }))
  .withOverride(column("bad VXLAN packets on the wire", { ...fixed("orange"), "custom.fillOpacity": 0, "custom.lineStyle": { fill: "dash", dash: [6, 4] } }));

export const natFlows = series({
  title: "Senders: NATed VXLAN flows", unit: "cpm", width: 8, height,
  why: "no data: no connection tracking is scraped",
  description: "The whole fleet: source-NATed VXLAN flows, new ones (left axis) and those tracked now (right axis). " +
    "Alone, without bad checksums: NAT that hurts nobody yet, or a firewall that hides it (\"Blind spot\").",
}, [
  [perMinute(snatSeen), "new"],
  [`sum(${snatNow})`, "tracked now"],
])
  .maxDataPoints(POINTS)
  .withOverride(column("new", { ...fixed(SENDS), "custom.fillOpacity": 45 }))
  .withOverride(column("tracked now", { ...rightAxis("tracked now"), ...fixed("blue") }));
