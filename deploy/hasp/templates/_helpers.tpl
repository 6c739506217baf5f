{{/* Labels of every object. By app.kubernetes.io/instance hasp install finds what to prune. */}}
{{- define "hasp.labels" -}}
app.kubernetes.io/name: hasp
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: hasp
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "hasp.tag" -}}
{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "hasp.trustDomain" -}}
{{ .Values.meshConfig.trustDomain | default "cluster.local" }}
{{- end }}

{{- define "hasp.controlPlaneAddress" -}}
istiod.{{ .Release.Namespace }}.svc:15012
{{- end }}

{{- define "hasp.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* A pod that Pod Security's "restricted" admits. */}}
{{- define "hasp.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 1337
runAsGroup: 1337
fsGroup: 1337
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "hasp.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 1337
runAsGroup: 1337
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Replicas on different nodes and zones when there are several. */}}
{{- define "hasp.spread" -}}
topologySpreadConstraints:
- maxSkew: 1
  topologyKey: topology.kubernetes.io/zone
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      app: {{ . }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            app: {{ . }}
{{- end }}

{{/* Name and namespace of the pod, for its program. */}}
{{- define "hasp.downwardEnv" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: SERVICE_ACCOUNT
  valueFrom:
    fieldRef:
      fieldPath: spec.serviceAccountName
{{- end }}

{{/* Namespaces whose pods the webhooks never see: the cluster could not start. */}}
{{- define "hasp.systemNamespaces" -}}
[kube-system, kube-public, kube-node-lease, {{ .Release.Namespace }}]
{{- end }}

{{/* What a proxy proves itself with, and what it verifies the authority with. */}}
{{- define "hasp.identityMounts" -}}
- {name: istio-token, mountPath: /var/run/secrets/tokens, readOnly: true}
- {name: istiod-ca-cert, mountPath: /var/run/secrets/istio, readOnly: true}
{{- end }}

{{- define "hasp.identityVolumes" -}}
- name: istio-token
  projected:
    sources:
    - serviceAccountToken: {path: istio-token, audience: istio-ca, expirationSeconds: 43200}
- name: istiod-ca-cert
  configMap:
    name: istio-ca-root-cert
{{- end }}
