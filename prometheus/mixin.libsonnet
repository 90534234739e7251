// Alert rules and dashboards as a Prometheus mixin (https://monitoring.mixins.dev): jsonnet -S -e "std.manifestYamlDoc((import 'mixin.libsonnet').prometheusAlerts)"
{
  _config+:: {
    runbookURL: '',  // what docs/RUNBOOK.md is at; without it alerts lead to the node's own report, or to Prometheus
    grafanaURL: '',  // without a slash at the end; without it alerts have no dashboard_url
  },

  // Recording rules stand with the alerts that read them, in one group: they run in order.
  prometheusAlerts+:: {
    local c = $._config,
    local links(url, name) = {
      [if c.runbookURL != '' then 'runbook_url']: c.runbookURL + '#' + std.asciiLower(name),
      [if c.grafanaURL != '' then 'dashboard_url']: c.grafanaURL +
        if std.length(std.findSubstr('externalURL', url)) > 0 then '/d/vxlan-fleet?var-cluster={{ $labels.cluster | urlquery }}'
        else '/d/vxlan-node?var-instance={{ $labels.instance | urlquery }}',
    },
    local linked(r) = if 'alert' in r then r { annotations+: links(r.annotations.runbook_url, r.alert) } else r,
    groups+: [g { rules: std.map(linked, g.rules) } for g in std.parseYaml(importstr 'rules/vxlan.alerts.yml').groups],
  },

  grafanaDashboards+:: {
    'vxlan-fleet.json': import '../grafana/dashboards/vxlan-fleet.json',
    'vxlan-node.json': import '../grafana/dashboards/vxlan-node.json',
  },
}
