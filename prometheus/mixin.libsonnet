// Alert rules and dashboards as a Prometheus mixin (https://monitoring.mixins.dev): jsonnet -S -e "std.manifestYamlDoc((import 'mixin.libsonnet').prometheusAlerts)"
{
  _config+:: {
    runbookURL: 'docs/RUNBOOK.md',  // what docs/RUNBOOK.md is at
    grafanaURL: '',  // without a slash at the end
  },

  // Recording rules stand with the alerts that read them, in one group: they run in order.
  prometheusAlerts+:: {
    local text = importstr 'rules/vxlan.alerts.yml',
    local linked = std.strReplace(
      std.strReplace(text, 'runbook_url: docs/RUNBOOK.md#', 'runbook_url: ' + $._config.runbookURL + '#'),
      'dashboard_url: /d/',
      'dashboard_url: ' + $._config.grafanaURL + '/d/',
    ),
    groups+: std.parseYaml(linked).groups,
  },

  grafanaDashboards+:: {
    'vxlan-fleet.json': import '../grafana/dashboards/vxlan-fleet.json',
    'vxlan-node.json': import '../grafana/dashboards/vxlan-node.json',
  },
}
