{{- define "vxlan-exporter.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "vxlan-exporter.fullname" -}}
{{- $name := include "vxlan-exporter.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{ .Values.fullnameOverride | default $full | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "vxlan-exporter.serviceAccount" -}}
{{- $own := ternary (include "vxlan-exporter.fullname" .) "default" .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default $own }}
{{- end }}

{{- define "vxlan-exporter.selector" -}}
app.kubernetes.io/name: {{ include "vxlan-exporter.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "vxlan-exporter.labels" -}}
{{ include "vxlan-exporter.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end }}

{{- define "vxlan-exporter.image" -}}
{{ .Values.image.repository }}
{{- with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion | replace "+" "_" }}{{ end }}
{{- end }}

{{- /* operator: whether to make a resource of the Prometheus operator; (list $ "PodMonitor" VALUE) */ -}}
{{- define "vxlan-exporter.operator" -}}
{{- $root := index . 0 -}}
{{- $has := $root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" (index . 1)) -}}
{{- if eq (toString (index . 2)) "auto" -}}{{ ternary "true" "" $has }}{{- else if index . 2 -}}true{{- end -}}
{{- end }}

{{- /* monitoringLabels: the labels of a resource of the operator; (list $ "podMonitorSelector") */ -}}
{{- define "vxlan-exporter.monitoringLabels" -}}
{{- $root := index . 0 -}}
{{- $labels := deepCopy $root.Values.monitoringLabels -}}
{{- if and (not $labels) ($root.Capabilities.APIVersions.Has "monitoring.coreos.com/v1/Prometheus") -}}
{{- range (lookup "monitoring.coreos.com/v1" "Prometheus" "" "").items -}}
{{- $labels = merge $labels (dig "spec" (index $ 1) "matchLabels" (dict) .) -}}
{{- end -}}
{{- end -}}
{{- with $labels }}{{ toYaml . }}{{ end -}}
{{- end }}

{{- define "vxlan-exporter.resources" -}}
env:
  - {name: GOMEMLIMIT, value: 48MiB}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
{{- end }}
