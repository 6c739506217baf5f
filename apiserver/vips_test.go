package apiserver

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Every address is handed out once, none of the low ones, and then no more.
func TestVIPsRunOut(t *testing.T) {
	v := &vips{used: map[netip.Addr]string{}}
	const room = 1<<16 - firstVIP - 1
	svc := func(i int) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("s", i)}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP}}
	}
	// All but three are taken, so that the search has to go round.
	for low := range uint32(room - 3) {
		v.used[vip(corev1.IPv4Protocol, firstVIP+low)] = "default/other"
	}
	seen := map[string]bool{}
	for i := range 3 {
		s := svc(i)
		if err := v.allocate(s); err != nil {
			t.Fatal(err)
		}
		if len(s.Spec.ClusterIPs) != 2 || seen[s.Spec.ClusterIP] {
			t.Errorf("%s has %v", s.Name, s.Spec.ClusterIPs)
		}
		seen[s.Spec.ClusterIP] = true
	}
	if !seen["10.96.255.252"] || !seen["10.96.255.253"] || !seen["10.96.255.254"] {
		t.Errorf("the last addresses are %v", seen)
	}
	want := "spec.clusterIPs: Internal error: no virtual address is left in 10.96.0.0/16 and fd96::/112"
	if err := v.allocate(svc(3)); err == nil || err.Error() != want {
		t.Errorf("one too many: %v, want %s", err, want)
	}
}
