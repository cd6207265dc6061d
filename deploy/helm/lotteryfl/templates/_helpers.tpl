{{- define "lotteryfl.name" -}}
{{- if contains "lotteryfl" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-lotteryfl" (.Release.Name | trunc 40 | trimSuffix "-") }}{{ end }}
{{- end }}

{{- define "lotteryfl.selector" -}}
app.kubernetes.io/name: lotteryfl
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .role }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{- define "lotteryfl.labels" -}}
{{ include "lotteryfl.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "lotteryfl.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "lotteryfl.claim" -}}
{{ .Values.runs.existingClaim | default (printf "%s-runs" (include "lotteryfl.name" .)) }}
{{- end }}

{{- define "lotteryfl.directory" -}}
/runs/{{ .Values.runs.directory | default .Release.Name }}
{{- end }}

{{- define "lotteryfl.tlsSecret" -}}
{{- $given := get .root.Values.tls (printf "%sSecret" .role) -}}
{{ $given | default (printf "%s-%s-tls" (include "lotteryfl.name" .root) .role) }}
{{- end }}

{{- define "lotteryfl.dataFolder" -}}
{{- with .Values.data }}{{ if or .folder .volume }}{{ .folder | default "/data" }}{{ end }}{{ end }}
{{- end }}

{{- /* A file's name as a key of a ConfigMap, which has no folders. */ -}}
{{- define "lotteryfl.key" -}}
{{ . | replace "/" "_-_" }}
{{- end }}

{{- /* The user's own code as an option names it: a file of `files` by where it is mounted, anything else as it is. */ -}}
{{- define "lotteryfl.own" -}}
{{- $found := list }}
{{- range $option, $sources := .options }}
{{- range $sources }}
{{- $found = append $found (printf "--%s=%s" $option (hasKey $.root.Values.files . | ternary (printf "/lotteryfl/files/%s" .) .)) }}
{{- end }}
{{- end }}
{{- with $found }}{{ toYaml . }}{{ end }}
{{- end }}

{{- define "lotteryfl.jobMetadata" -}}
name: {{ include "lotteryfl.name" .root }}-{{ .role }}
labels:
  {{- include "lotteryfl.labels" . | nindent 2 }}
  {{- with .values.queue }}
  kueue.x-k8s.io/queue-name: {{ . | quote }}
  {{- end }}
  {{- with .values.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .values.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "lotteryfl.podMetadata" -}}
labels:
  {{- include "lotteryfl.labels" . | nindent 2 }}
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* What all pods have in common: no token of the cluster, nobody's root, and where they may go. */ -}}
{{- define "lotteryfl.podSpec" -}}
restartPolicy: Never
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .root.Values.terminationGracePeriodSeconds }}
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- with .root.Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- range $key := list "schedulerName" "priorityClassName" "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" }}
{{- with get $.values $key }}
{{ toYaml (dict $key .) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "lotteryfl.container" -}}
image: {{ include "lotteryfl.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
{{- with .root.Values.image.command }}
command:
  {{- toYaml . | nindent 2 }}
{{- end }}
terminationMessagePolicy: FallbackToLogsOnError # why it failed is in the pod's status
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
env:
  - name: HOME
    value: /tmp # libraries keep caches there
  {{- with .values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "lotteryfl.tlsArguments" -}}
- --tls-cert=/certs/tls.crt
- --tls-key=/certs/tls.key
- --tls-ca=/certs/ca.crt
{{- end }}

{{- define "lotteryfl.mounts" -}}
- name: certs
  mountPath: /certs
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- if or .root.Values.files (eq .role "coordinator") }}
- name: files
  mountPath: /lotteryfl/files
  readOnly: true
{{- end }}
{{- with .values.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "lotteryfl.volumes" -}}
- name: certs
  secret:
    secretName: {{ include "lotteryfl.tlsSecret" . }}
    defaultMode: 0440
- name: tmp
  emptyDir: {}
{{- if or .root.Values.files (eq .role "coordinator") }}
- name: files
  configMap:
    name: {{ include "lotteryfl.name" .root }}-files
    items:
      {{- if eq .role "coordinator" }}
      - {key: experiment.toml, path: experiment.toml}
      {{- end }}
      {{- range $name, $_ := .root.Values.files }}
      - {key: {{ include "lotteryfl.key" $name | quote }}, path: {{ $name | quote }}}
      {{- end }}
{{- end }}
{{- with .values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
