package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"

	securityapi "istio.io/api/security/v1beta1"
	typeapi "istio.io/api/type/v1beta1"
	security "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hasp/api"
	"hasp/mesh"
)

// largeEvery: one service in so many has largeTimes the workloads of the others.
const (
	largeEvery = 100
	largeTimes = 20
	// perNamespace is how many services a namespace has.
	perNamespace = 50
)

// city is the mesh as it is drawn.
type city struct {
	rand     *rand.Rand
	services []*service
	pods     int // ever made, for names and addresses
}

// service is a Service, and the Deployment behind it.
type service struct {
	namespace, name string
	number          int
	address         string // of the Service
	pods            []*corev1.Pod
	rollout         int
}

// newCity draws one, without applying anything.
func newCity(p Plan) *city {
	c := &city{rand: rand.New(rand.NewPCG(p.Seed, 0))}
	var weights int
	weight := func(i int) int {
		if i%largeEvery == 0 {
			return largeTimes
		}
		return 1
	}
	for i := range p.Services {
		weights += weight(i)
	}
	for i := range p.Services {
		c.services = append(c.services, &service{namespace: "ns-" + strconv.Itoa(i/perNamespace), name: "app-" + strconv.Itoa(i), number: i})
	}
	given, sum := 0, 0
	for i, s := range c.services {
		sum += weight(i)
		n := 1 + (p.Workloads-p.Services)*sum/weights - given
		given += n - 1
		for range n {
			s.pods = append(s.pods, c.pod(s))
		}
	}
	return c
}

// namespaces that there are.
func (c *city) namespaces() []string {
	var out []string
	for i := 0; i < len(c.services); i += perNamespace {
		out = append(out, c.services[i].namespace)
	}
	return out
}

// pod is a new one of a service, ready.
func (c *city) pod(s *service) *corev1.Pod {
	n := c.pods
	c.pods++
	hash := "r" + strconv.Itoa(s.rollout)
	controller := true
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.namespace, Name: fmt.Sprintf("%s-%s-%d", s.name, hash, n), UID: types.UID("pod-" + strconv.Itoa(n)),
			Labels:      map[string]string{"app": s.name, "version": "v1", "pod-template-hash": hash},
			Annotations: map[string]string{api.InjectStatusKey: "injected"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: s.name + "-" + hash,
				UID: types.UID("rs-" + s.name + hash), Controller: &controller}},
		},
		Spec: corev1.PodSpec{
			ServiceAccountName: s.name, NodeName: "node-" + strconv.Itoa(n%500),
			InitContainers: []corev1.Container{{Name: api.ProxyContainer, Image: "hasp-proxy"}},
			Containers:     []corev1.Container{{Name: "app", Image: "app", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: address(10, n), PodIPs: []corev1.PodIP{{IP: address(10, n)}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
}

// address number n of a network of 24 bits.
func address(network, n int) string {
	n += 257
	return fmt.Sprintf("%d.%d.%d.%d", network, n>>16&255, n>>8&255, n&255)
}

// servicePort is the one that is called.
const servicePort = 80

// wanted is the address that the Service asks for.
func (s *service) wanted() string {
	return fmt.Sprintf("172.%d.%d.%d", 16+s.number/62500, s.number/250%250, s.number%250+1)
}

// object of the Service.
func (s *service) object() *corev1.Service {
	ip := s.wanted()
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: s.name, UID: types.UID("svc-" + s.name)},
		Spec: corev1.ServiceSpec{ClusterIP: ip, ClusterIPs: []string{ip}, Selector: map[string]string{"app": s.name},
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports:      []corev1.ServicePort{{Name: "http", Port: servicePort}, {Name: "grpc", Port: 9090}}},
	}
}

func namespaceObject(name string) *corev1.Namespace {
	return &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("ns-" + name), Labels: map[string]string{corev1.LabelMetadataName: name}}}
}

// peerAuthentication with a mode, for all of a namespace or those of an app.
func peerAuthentication(namespace, name, app string, mode securityapi.PeerAuthentication_MutualTLS_Mode, generation int64) *security.PeerAuthentication {
	o := &security.PeerAuthentication{
		TypeMeta:   metav1.TypeMeta{APIVersion: "security.istio.io/v1", Kind: "PeerAuthentication"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("pa-" + namespace + name), Generation: generation},
		Spec:       securityapi.PeerAuthentication{Mtls: &securityapi.PeerAuthentication_MutualTLS{Mode: mode}},
	}
	if app != "" {
		o.Spec.Selector = &typeapi.WorkloadSelector{MatchLabels: map[string]string{"app": app}}
	}
	return o
}

// member is a workload whose proxy is connected.
type member struct {
	Node, Identity string
	Address        string
	Calls          []int            // numbers of services
	Services       []netip.AddrPort // where those are
	Callers        []netip.Addr     // whose proxies have connected to it
}

// members are spread over all services. Half of what one calls is in its own
// namespace, a quarter are the large ones, which everybody knows, and the rest is
// any. Callers are any pods.
func (c *city) members(p Plan) []member {
	var out []member
	used := map[*service]int{}
	for i := range p.Proxies {
		n := i * len(c.services) / p.Proxies
		for used[c.services[n]] == len(c.services[n].pods) {
			n = (n + 1) % len(c.services)
		}
		s := c.services[n]
		pod := s.pods[used[s]]
		used[s]++
		m := member{Node: key(pod), Identity: mesh.Identity(trustDomain, s.namespace, s.name), Address: pod.Status.PodIP}
		taken := map[int]bool{}
		for tries := 0; len(m.Calls) < p.Calls; tries++ {
			to := c.draw(s, tries)
			if !taken[to] {
				taken[to] = true
				m.Calls = append(m.Calls, to)
				m.Services = append(m.Services, netip.AddrPortFrom(netip.MustParseAddr(c.services[to].address), servicePort))
			}
			by := c.services[c.draw(s, tries)]
			if len(m.Callers) < p.Calls {
				m.Callers = append(m.Callers, netip.MustParseAddr(by.pods[c.rand.IntN(len(by.pods))].Status.PodIP))
			}
		}
		out = append(out, m)
	}
	return out
}

// draw a service that one of a service calls.
func (c *city) draw(s *service, n int) int {
	switch home := s.number / perNamespace * perNamespace; {
	case n > 10*len(c.services): // all that there are, one after the other
		return n % len(c.services)
	case n%4 < 2:
		return home + c.rand.IntN(min(perNamespace, len(c.services)-home))
	case n%4 == 2:
		return c.rand.IntN((len(c.services)+largeEvery-1)/largeEvery) * largeEvery
	}
	return c.rand.IntN(len(c.services))
}
