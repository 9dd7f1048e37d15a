{{- define "paretune.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Names are cut to 40 characters, so that the longest suffix still fits a DNS label. */}}
{{- define "paretune.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "paretune.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "paretune.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "paretune.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "paretune.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: paretune
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Labels of one component's pods: (list CONTEXT COMPONENT). */}}
{{- define "paretune.selector" -}}
app.kubernetes.io/name: {{ include "paretune.name" (index . 0) }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "paretune.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "paretune.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "paretune.leaseName" -}}
{{- default (include "paretune.fullname" .) .Values.lease.name -}}
{{- end -}}

{{/* Full reference of an image: (list CONTEXT NAME). */}}
{{- define "paretune.image" -}}
{{- $context := index . 0 -}}
{{- $image := index $context.Values.images (index . 1) -}}
{{- $registry := default $image.registry $context.Values.imageRegistry | trimSuffix "/" -}}
{{- $name := ternary $image.repository (printf "%s/%s" $registry $image.repository) (empty $registry) -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default $context.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "paretune.imagePullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Meets the Pod Security Standard `restricted`: (list USER). */}}
{{- define "paretune.podSecurityContext" -}}
runAsNonRoot: true
{{- $user := index . 0 }}
{{- if not (kindIs "invalid" $user) }}
runAsUser: {{ int64 $user }}
runAsGroup: {{ int64 $user }}
fsGroup: {{ int64 $user }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "paretune.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "paretune.mlflow.name" -}}
{{- printf "%s-mlflow" (include "paretune.fullname" .) -}}
{{- end -}}

{{/* Names of the bundled MLflow's service inside the cluster, separated by commas. */}}
{{- define "paretune.mlflow.hosts" -}}
{{- $name := include "paretune.mlflow.name" . -}}
{{- $namespaced := printf "%s.%s" $name .Release.Namespace -}}
{{- list $name $namespaced (printf "%s.svc" $namespaced) (printf "%s.svc.%s" $namespaced .Values.clusterDomain) | join "," -}}
{{- end -}}

{{/* Its address as the operator knows it. */}}
{{- define "paretune.mlflow.uri" -}}
{{- printf "http://%s.%s.svc:%d" (include "paretune.mlflow.name" .) .Release.Namespace (int .Values.mlflow.port) -}}
{{- end -}}

{{/* Hosts that are reached without proxy. */}}
{{- define "paretune.noProxy" -}}
{{- $hosts := list "localhost" "127.0.0.1" ".svc" (printf ".%s" .Values.clusterDomain) -}}
{{- if .Values.mlflow.enabled -}}
{{- $hosts = concat $hosts (splitList "," (include "paretune.mlflow.hosts" .)) -}}
{{- end -}}
{{- with .Values.proxy.noProxy -}}
{{- $hosts = append $hosts . -}}
{{- end -}}
{{- join "," $hosts -}}
{{- end -}}

{{/* The proxy's environment, as a list; empty without proxy. */}}
{{- define "paretune.proxyEnv" -}}
{{- with .Values.proxy.httpProxy }}
- name: HTTP_PROXY
  value: {{ . | quote }}
{{- end }}
{{- with .Values.proxy.httpsProxy }}
- name: HTTPS_PROXY
  value: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "paretune.caConfigMap" -}}
{{- if and .Values.caBundle.pem .Values.caBundle.configMap -}}
{{- fail "caBundle.pem and caBundle.configMap exclude each other: give the certificates or the name of a ConfigMap that has them" -}}
{{- end -}}
{{- if .Values.caBundle.pem -}}
{{- printf "%s-ca" (include "paretune.fullname" .) -}}
{{- else -}}
{{- .Values.caBundle.configMap -}}
{{- end -}}
{{- end -}}

{{- define "paretune.config" -}}
{{- $servers := list -}}
{{- if .Values.mlflow.enabled -}}
{{- $servers = append $servers (dict "uri" (include "paretune.mlflow.uri" .)) -}}
{{- end -}}
{{- range $index, $server := .Values.tracking.servers -}}
{{- $entry := dict "uri" $server.uri -}}
{{- if $server.credentialsSecret -}}
{{- $_ := set $entry "credentialsPath" (printf "/var/run/paretune/tracking/%d" $index) -}}
{{- end -}}
{{- $servers = append $servers $entry -}}
{{- end -}}
{{- $uris := list -}}
{{- range $servers -}}
{{- if has .uri $uris -}}
{{- fail (printf "tracking.servers: %s is there twice" .uri) -}}
{{- end -}}
{{- $uris = append $uris .uri -}}
{{- end -}}
{{- $default := .Values.tracking.default -}}
{{- if and (not $default) $uris -}}
{{- $default = first $uris -}}
{{- end -}}
{{- if and $default (not (has $default $uris)) -}}
{{- fail (printf "tracking.default %s is none of tracking.servers (%s): add it there" $default (default "none" (join ", " $uris))) -}}
{{- end -}}
{{- $env := .Values.jobs.env -}}
{{- with include "paretune.proxyEnv" . | fromYamlArray -}}
{{- $env = concat . (list (dict "name" "NO_PROXY" "value" (include "paretune.noProxy" $))) $env -}}
{{- end -}}
{{- $pullSecrets := list -}}
{{- range .Values.imagePullSecrets -}}
{{- $pullSecrets = append $pullSecrets .name -}}
{{- end -}}
namespaces: {{ .Values.namespaces | toJson }}
images:
  compress: {{ include "paretune.image" (list . "compress") | quote }}
  benchmark: {{ include "paretune.image" (list . "benchmark") | quote }}
  operator: {{ include "paretune.image" (list . "operator") | quote }}
imagePullPolicy: {{ .Values.imagePullPolicy }}
imagePullSecrets: {{ $pullSecrets | toJson }}
lease:
  name: {{ include "paretune.leaseName" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
tracking:
  servers: {{ $servers | toJson }}
  default: {{ $default | quote }}
allowInlinePools: {{ .Values.allowInlinePools }}
shareSteps: {{ .Values.shareSteps }}
kueue:
  enabled: {{ .Values.kueue.enabled }}
compress:
  resources:
    {{- toYaml .Values.compress.resources | nindent 4 }}
  activeDeadlineSeconds: {{ int64 .Values.compress.activeDeadlineSeconds }}
jobs:
  env: {{ $env | toJson }}
  caBundleConfigMap: {{ include "paretune.caConfigMap" . | quote }}
  serviceAccountName: {{ .Values.jobs.serviceAccountName | quote }}
  priorityClassName: {{ .Values.jobs.priorityClassName | quote }}
reconcile:
  workers: {{ int64 .Values.reconcile.workers }}
  statusSeconds: {{ int64 .Values.reconcile.statusSeconds }}
logLevel: {{ .Values.logLevel }}
{{- end -}}
