// PromQL that both dashboards share. Only the exporter's own metrics and ALERTS are used, so that the dashboards work where the
// recording rules are not loaded.

/** Labels that name a node. `cluster` may be absent everywhere: then it matches and groups as the empty label. */
export const node = "cluster, instance";

/** The scrape jobs and clusters that are looked at, whatever node. */
export const fleet = 'job=~"$job",cluster=~"$cluster"';

/** A selector narrowed by the dashboard's variables. */
export function sel(metric: string, ...matchers: string[]): string {
  return `${metric}{${[fleet, 'instance=~"$instance"', ...matchers].join(",")}}`;
}

/** The same, narrowed to the chosen devices, too. */
export const dev = (metric: string, ...matchers: string[]): string => sel(metric, 'device=~"$device"', ...matchers);

/** Window of what is called "now": long enough for a scrape interval of a minute, and for the 63 s of a whole stall. */
export const NOW = "5m";

/** How much a counter rose over a window. */
export const rise = (selector: string, window = "$__rate_interval"): string => `increase(${selector}[${window}])`;

/**
 * Events a minute, of all or by some labels: a stalled connection sends 2 to 6 bad packets in a minute, which nobody reads as 0.07 per
 * second. The product is taken of the sum and not of each node.
 */
export const perMinute = (selector: string, by?: string): string =>
  `60 * sum ${by ? `by (${by}) ` : ""}(rate(${selector}[$__rate_interval]))`;

/**
 * The same by node, of the few nodes that worst gives. They are chosen once, at the end of the shown time: chosen at each step, every
 * node that was among the worst at some moment would have a line.
 */
export const perMinuteOf = (selector: string, worst: string): string =>
  `60 * sum by (${node}) (rate(${selector}[$__rate_interval]) and on (${node}) ${worst})`;

/** How much a counter rose in the whole shown time, for a choice among lines over time. */
export const riseInAll = (selector: string): string => `sum by (${node}) (increase(${selector}[$__range] @ end()))`;

export const csumErrors = sel("vxlan_host_udp_in_csum_errors_total");
export const invalid = sel("vxlan_host_conntrack_invalid_total");
export const wireBadIn = sel("vxlan_wire_packets_total", 'verdict="bad"', 'direction="in"');
export const snatNow = sel("vxlan_conntrack_nat_flows", 'nat="snat"');
export const snatSeen = sel("vxlan_conntrack_nat_flows_seen_total", 'nat="snat"');

/**
 * Exposure as a number: 0 clear, 1 unknown, 2 exposed, 3 active. Exactly one state is 1, so the sum picks it.
 * The three selectors differ in `state`, so that `or` keeps all of them.
 */
export function exposure(by: string): string {
  const state = (s: string): string => dev("vxlan_device_exposure", `state="${s}"`);
  return `sum by (${by}) (3 * ${state("active")} or 2 * ${state("exposed")} or ${state("unknown")})`;
}

/** State of kube-proxy's masquerade mark as a number: 0 not understood, 1 cleared, 2 absent, 3 bypassed, 4 kept. */
export function markState(by: string): string {
  const state = (s: string): string => sel("vxlan_nat_masquerade_mark_state", `state="${s}"`);
  return `sum by (${by}) (${state("cleared")} or 2 * ${state("absent")} or 3 * ${state("bypassed")} or 4 * ${state("kept")})`;
}

/**
 * Whether the failure is happening, as a number for each cluster, of which the largest is taken: 9 both halves are seen, 7 bad checksums
 * and nobody could look for NATed flows, 6 bad checksums only, 3 NATed flows only, 1 no bad checksums and nobody could look, 0 neither.
 */
export function happening(): string {
  const bad = `(max by (cluster) (${rise(csumErrors, NOW)} or ${rise(wireBadIn, NOW)}) > bool 0)`;
  const nat = `((max by (cluster) (${snatNow}) + max by (cluster) (${rise(snatSeen, NOW)})) > bool 0)`;
  const unseen = `(count by (cluster) (${sel("vxlan_exporter_build_info")}) ^ 0)`;
  return `max(6 * ${bad} + on (cluster) (3 * ${nat} or ${unseen}))`;
}

/** Nodes that received bad checksums now, by the kernel's counters or by the packet capture. */
export const suffering = `sum((sum by (${node}) (${rise(csumErrors, NOW)} or ${rise(wireBadIn, NOW)})) > bool 0)`;

/** Nodes that NAT their own VXLAN packets now. */
export const causing = `sum((sum by (${node}) (${snatNow} + ${rise(snatSeen, NOW)})) > bool 0)`;

/** Nodes that were scraped in the shown time, and now are not, or cannot read what shows either half of the failure. */
export const blind =
  `count(max by (${node}) (last_over_time(${sel("vxlan_exporter_build_info")}[$__range])) unless` +
  ` (min by (${node}) (${sel("vxlan_scrape_collector_success", 'collector=~"conntrack|device|host"')}) == 1))` +
  ` or 0 * count(${sel("vxlan_exporter_build_info")})`;

/** First moment in the shown time at which expr had a value, in milliseconds since 1970. */
export const firstTime = (expr: string): string => `1000 * min_over_time(timestamp(${expr})[$__range:$__interval])`;
