{{/* The image, by its digest where that is given. */}}
{{- define "ringway.image" -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag }}{{ end }}
{{- end }}

{{/* A waypoint or a gateway: `role`, `ports` with a name each, `of` (an entry of the values), `values` (all of them). */}}
{{- define "ringway.l7" }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .of.name }}
  namespace: {{ .of.namespace }}
  labels:
    app: {{ .of.name }}
{{- with .values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ .of.name }}
  namespace: {{ .of.namespace }}
  labels:
    app: {{ .of.name }}
spec:
  selector:
    app: {{ .of.name }}
  ports:
    {{- range .ports }}
    - name: {{ .name }}
      port: {{ .port }}
    {{- end }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .of.name }}
  namespace: {{ .of.namespace }}
  labels:
    app: {{ .of.name }}
spec:
  replicas: {{ .of.replicas | default 2 }}
  selector:
    matchLabels:
      app: {{ .of.name }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
  template:
    metadata:
      labels:
        app: {{ .of.name }}
        gateway.networking.k8s.io/gateway-name: {{ .of.name }}
        istio.io/dataplane-mode: none
        sidecar.istio.io/inject: "false"
      annotations:
        prometheus.io/scrape: "true"
        prometheus.io/port: "15020"
        prometheus.io/path: /stats/prometheus
    spec:
      serviceAccountName: {{ .of.name }}
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 30
      {{- if eq .role "gateway" }}
      securityContext:
        # Listeners on ports below 1024 without a capability: one of the sysctls that every cluster allows.
        sysctls:
          - name: net.ipv4.ip_unprivileged_port_start
            value: "0"
      {{- end }}
      containers:
        - name: istio-proxy
          image: {{ include "ringway.image" .values.image | quote }}
          imagePullPolicy: {{ .values.image.pullPolicy }}
          args: [{{ .role }}, --file, /etc/ringway, --name, {{ .of.namespace }}/{{ .of.name }}, --state-directory, /tmp, --access-log, istio]
          ports:
            {{- range .ports }}
            - name: {{ .name }}
              containerPort: {{ .port }}
            {{- end }}
            - name: stats
              containerPort: 15020
          resources:
            requests:
              cpu: 100m
              memory: 64Mi
          securityContext:
            allowPrivilegeEscalation: false
            privileged: false
            capabilities:
              drop: [ALL]
            readOnlyRootFilesystem: true
            runAsNonRoot: true
            runAsUser: 10101
            runAsGroup: 10101
            seccompProfile:
              {{- toYaml .values.l7.seccompProfile | nindent 14 }}
          readinessProbe:
            httpGet:
              port: 15021
              path: /healthz/ready
          volumeMounts:
            - name: mesh
              mountPath: /etc/ringway
              readOnly: true
            - name: spiffe
              mountPath: /spiffe
              readOnly: true
            - name: tmp
              mountPath: /tmp
      volumes:
        - name: mesh
          configMap:
            name: {{ .of.configMap }}
        - name: spiffe
          csi:
            driver: {{ .values.l7.spiffeDriver }}
            readOnly: true
        - name: tmp
          emptyDir: {}
{{- if .values.networkPolicy.enabled }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ .of.name }}
  namespace: {{ .of.namespace }}
spec:
  podSelector:
    matchLabels:
      app: {{ .of.name }}
  policyTypes: [Ingress]
  ingress:
    - ports:
        {{- range .ports }}
        - port: {{ .port }}
        {{- end }}
        - port: 15020
        - port: 15021
{{- end }}
{{- end }}
