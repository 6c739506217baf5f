package source_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	networkingapi "istio.io/api/networking/v1alpha3"
	securityapi "istio.io/api/security/v1beta1"
	networking "istio.io/client-go/pkg/apis/networking/v1"
	security "istio.io/client-go/pkg/apis/security/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hasp/api"
	"hasp/mesh"
	"hasp/source"
	"hasp/world"
)

// dice draw objects from few names and few values, so that they meet.
type dice struct{ *rand.Rand }

func (d dice) one(of ...string) string { return of[d.IntN(len(of))] }
func (d dice) sometimes(n int) bool    { return d.IntN(n) == 0 }

func (d dice) namespace() string { return d.one("default", "shop", "bank", "zoo") }
func (d dice) address() string   { return fmt.Sprintf("10.0.0.%d", 1+d.IntN(12)) }
func (d dice) app() string       { return d.one("web", "api", "db", "") }

func (d dice) labels() map[string]string {
	l := map[string]string{"version": d.one("v1", "v2")}
	if a := d.app(); a != "" {
		l["app"] = a
	}
	return l
}

func (d dice) selector() map[string]string {
	if d.sometimes(4) {
		return nil
	}
	s := map[string]string{"app": d.app()}
	if d.sometimes(3) {
		s["version"] = d.one("v1", "")
	}
	return s
}

func (d dice) meta(names ...string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: d.namespace(), Name: d.one(names...)}
}

func (d dice) object() metav1.Object {
	switch d.IntN(15) {
	case 0:
		n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: d.namespace()}}
		if d.sometimes(2) {
			n.Labels = map[string]string{"istio-injection": d.one("enabled", "disabled")}
		}
		return n
	case 1, 2, 3, 4:
		return d.pod()
	case 5, 6:
		return d.service()
	case 7, 8:
		return d.slice()
	case 9:
		return d.serviceEntry()
	case 10:
		w := &networking.WorkloadEntry{ObjectMeta: d.meta("vm1", "vm2")}
		w.Spec.Address, w.Spec.Labels, w.Spec.ServiceAccount = d.address(), d.labels(), d.one("", "vm")
		return w
	case 11:
		m := &appsv1.Deployment{ObjectMeta: d.meta("web", "owner")}
		m.Spec.Template.Labels = d.labels()
		return m
	case 12:
		p := &security.PeerAuthentication{ObjectMeta: d.meta("default", "other")}
		p.Spec.Mtls = &securityapi.PeerAuthentication_MutualTLS{Mode: securityapi.PeerAuthentication_MutualTLS_Mode(d.IntN(4))}
		return p
	case 13:
		return &corev1.Secret{ObjectMeta: d.meta("tls"), Data: map[string][]byte{"tls.crt": []byte(d.one("a", "")), "tls.key": []byte("k")}}
	default:
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: d.one(api.MeshConfigName, "other")},
			Data: map[string]string{api.MeshConfigKey: d.one("trustDomain: cluster.local", "trustDomain: elsewhere.example", "enableAutoMtls: false", "wrong: {")}}
	}
}

func (d dice) pod() *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: d.meta("p1", "p2", "p3", "p4", "p5")}
	p.Labels = d.labels()
	if d.sometimes(2) {
		p.UID = "u"
	}
	if d.sometimes(2) {
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "StatefulSet", Name: "owner"}}
	}
	p.Spec.HostNetwork, p.Spec.ServiceAccountName = d.sometimes(8), d.one("", "web")
	p.Spec.Containers = []corev1.Container{{Name: d.one("app", "app", "app", "istio-proxy"), Ports: []corev1.ContainerPort{{Name: "named", ContainerPort: int32(8080 + d.IntN(2))}}}}
	p.Status.Phase = corev1.PodPhase(d.one("", "Running", "Running", "Succeeded"))
	if !d.sometimes(5) {
		p.Status.PodIP = d.address()
	}
	if d.sometimes(2) {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionStatus(d.one("True", "False"))}}
	}
	if d.sometimes(3) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "istio-proxy"}}
	}
	return p
}

func (d dice) service() *corev1.Service {
	s := &corev1.Service{ObjectMeta: d.meta("web", "api", "db")}
	s.Spec.Selector = d.selector()
	s.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80}}
	if d.sometimes(3) {
		s.Spec.Ports[0].TargetPort.StrVal, s.Spec.Ports[0].TargetPort.Type = "named", 1
	}
	switch d.IntN(5) {
	case 0:
		s.Spec.ClusterIP = corev1.ClusterIPNone
	case 1:
		s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, d.one("web.shop.svc.cluster.local", "db.bank.svc.cluster.local.", "example.com")
	default:
		s.Spec.ClusterIP, s.Spec.IPFamilies = d.one("10.96.0.1", "10.96.0.2"), []corev1.IPFamily{corev1.IPFamily(d.one("IPv4", "IPv6"))}
	}
	s.Spec.PublishNotReadyAddresses = d.sometimes(5)
	return s
}

func (d dice) slice() *discoveryv1.EndpointSlice {
	port, name := int32(8080), "http"
	s := &discoveryv1.EndpointSlice{ObjectMeta: d.meta("s1", "s2", "s3"), AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}}}
	if !d.sometimes(6) {
		s.Labels = map[string]string{discoveryv1.LabelServiceName: d.one("web", "api", "db")}
	}
	for range 1 + d.IntN(3) {
		e := discoveryv1.Endpoint{Addresses: []string{d.address()}}
		if d.sometimes(2) {
			e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: d.one("p1", "p2", "p3"), Namespace: d.one("", "shop", "bank")}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

func (d dice) serviceEntry() *networking.ServiceEntry {
	e := &networking.ServiceEntry{ObjectMeta: d.meta("out", "vms")}
	e.Spec.Hosts = [][]string{{"api.example.com"}, {"api.example.com", "web.shop.svc.cluster.local"}, {"other.example.com"}}[d.IntN(3)]
	e.Spec.Ports = []*networkingapi.ServicePort{{Number: 443, Name: "tls", Protocol: "TLS"}}
	e.Spec.Resolution = networkingapi.ServiceEntry_Resolution(d.IntN(3))
	e.Spec.Location = networkingapi.ServiceEntry_Location(d.IntN(2))
	if d.sometimes(2) {
		e.Spec.Addresses = []string{d.one("192.0.2.1", "192.0.2.0/24")}
	}
	if d.sometimes(2) {
		e.Spec.WorkloadSelector = &networkingapi.WorkloadSelector{Labels: map[string]string{"version": "v1"}}
	} else if d.sometimes(2) {
		e.Spec.Endpoints = []*networkingapi.WorkloadEntry{{Address: d.address()}}
	}
	return e
}

// TestBuilder: however objects come, change and go, every World is the one that is
// built of the same objects from scratch, finds the same, and shares with the one
// before whatever is equal.
func TestBuilder(t *testing.T) {
	for seed := range uint64(60) {
		d := dice{rand.New(rand.NewPCG(seed, 1))}
		b := source.NewBuilder("cluster.local")
		have := map[string]metav1.Object{}
		var before *world.World
		for step := range 40 {
			for range 1 + d.IntN(4)*d.IntN(4) {
				o := d.object()
				key := fmt.Sprintf("%T %s/%s", o, o.GetNamespace(), o.GetName())
				if d.sometimes(3) {
					delete(have, key)
					b.Remove(o)
				} else {
					have[key] = o
					b.Set(o)
				}
			}
			got := b.Build()
			read := objectsOf(have)
			want, problems := source.Build(read, "cluster.local")
			at := fmt.Sprintf("seed %d, step %d", seed, step)
			if diff := cmp.Diff(want, got.World, cmpopts.IgnoreUnexported(world.World{}, networkingapi.ServiceEntry{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(proto)); diff != "" {
				t.Fatalf("%s (-from scratch +after changes)\n%s", at, diff)
			}
			if diff := cmp.Diff(problems, got.Problems); diff != "" {
				t.Fatalf("%s: problems (-from scratch +after changes)\n%s", at, diff)
			}
			if !want.Equal(got.World) {
				t.Fatalf("%s: two equal Worlds are not", at)
			}
			if diff := cmp.Diff(answers(bare(want)), answers(got.World)); diff != "" {
				t.Fatalf("%s: what is found (-by a search +by the index)\n%s", at, diff)
			}
			if again, _ := source.Build(got.Objects(), "cluster.local"); !again.Equal(want) {
				t.Fatalf("%s: the objects are not those that the World was built of", at)
			}
			if before != nil {
				shared(t, at, before, got.World)
			}
			before = got.World
		}
	}
}

// proto messages say the same in their text.
func proto(a, b *security.PeerAuthentication) bool { return reflect.DeepEqual(a, b) }

func objectsOf(have map[string]metav1.Object) *source.Objects {
	b := source.NewBuilder("")
	for _, o := range have {
		b.Set(o)
	}
	return b.Build().Objects()
}

// bare is a World without its index.
func bare(w *world.World) *world.World {
	out := &world.World{}
	from, to := reflect.ValueOf(w).Elem(), reflect.ValueOf(out).Elem()
	for i := range from.NumField() {
		if from.Type().Field(i).IsExported() {
			to.Field(i).Set(from.Field(i))
		}
	}
	return out
}

// answers to every question that an index answers.
func answers(w *world.World) []string {
	var out []string
	say := func(what string, workloads []*mesh.Workload, services []*mesh.Service) {
		line := what + ":"
		for _, wl := range workloads {
			if wl != nil {
				line += " " + wl.Key()
			}
		}
		for _, s := range services {
			if s != nil {
				line += fmt.Sprintf(" %s/%s/%s/%s", s.Namespace, s.Name, s.Hostname, s.Resolution)
			}
		}
		out = append(out, line)
	}
	for _, wl := range w.Workloads {
		say("key "+wl.Key(), []*mesh.Workload{w.Workload(wl.Key())}, nil)
		say("services of "+wl.Key(), nil, w.ServicesOf(wl))
		say("leading to "+wl.Key(), nil, w.ServicesLeadingTo(wl))
		say("naming "+wl.Key(), nil, w.ServicesNaming(wl.Key()))
	}
	for i, s := range w.Services {
		say(fmt.Sprint("workloads of ", i), w.WorkloadsOf(s), nil)
		for _, n := range []string{"shop", "bank", "nowhere"} {
			say(n+" sees "+s.Hostname, nil, []*mesh.Service{w.Service(n, s.Hostname)})
		}
	}
	for i := range 14 {
		a := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		say(fmt.Sprint("having ", a), w.Having(a), nil)
		wl, node := w.At(a)
		say(fmt.Sprint(a, node), []*mesh.Workload{wl}, nil)
	}
	say("gateways", w.GatewayWorkloads(), nil)
	for _, n := range []string{"default", "shop", "bank", "zoo"} {
		out = append(out, fmt.Sprint(n, w.HasAccount(n, "default"), w.HasAccount(n, "web")))
	}
	return out
}

// shared: what is equal in both is the same in both.
func shared(t *testing.T, at string, before, now *world.World) {
	t.Helper()
	for _, wl := range now.Workloads {
		if old := before.Workload(wl.Key()); old != nil && old != wl && reflect.DeepEqual(old, wl) {
			t.Errorf("%s: workload %s was made again", at, wl.Key())
		}
	}
	for _, s := range now.Services {
		same := slices.ContainsFunc(before.Services, func(old *mesh.Service) bool { return old == s })
		equal := slices.ContainsFunc(before.Services, func(old *mesh.Service) bool { return reflect.DeepEqual(old, s) })
		if equal && !same {
			t.Errorf("%s: service %s %s was made again", at, s.Namespace, s.Hostname)
		}
	}
}
