package inject

import corev1 "k8s.io/api/core/v1"

// Of the token that proves a workload to the control plane, as in Istio.
const (
	tokenFile     = "istio-token"
	tokenAudience = "istio-ca"
	tokenSeconds  = 43200

	// rootsConfigMap is in every namespace; the control plane writes it.
	rootsConfigMap = "istio-ca-root-cert"
)

// volumes are what the sidecar reads: its token, which a kubelet keeps fresh, and
// the roots of the mesh.
func volumes() []corev1.Volume {
	return []corev1.Volume{
		{Name: tokenVolume, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
				Path: tokenFile, Audience: tokenAudience, ExpirationSeconds: new(int64(tokenSeconds)),
			}}},
		}}},
		{Name: rootsVolume, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: rootsConfigMap},
		}}},
	}
}
