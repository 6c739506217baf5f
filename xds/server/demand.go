package server

import (
	"slices"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"hasp/xds"
)

// capable: whoever sends this as its first request can be told on demand.
func capable(r request) bool {
	_, delta := r.(*discovery.DeltaDiscoveryRequest)
	return delta && slices.Contains(r.GetNode().GetClientFeatures(), xds.OnDemand)
}

// ask takes note of what a request asks for on demand, or gives up, and reports
// whether it does either.
func (ses *session) ask(r request) (changed bool, err error) {
	d, ok := r.(*discovery.DeltaDiscoveryRequest)
	if !ok || !ses.capable {
		return false, nil
	}
	for _, n := range d.GetResourceNamesSubscribe() {
		if len(n) > maxNameLength {
			return false, status.Errorf(codes.InvalidArgument, "a resource name is longer than %d bytes", maxNameLength)
		}
	}
	more := xds.Ask(&ses.demand, d.GetTypeUrl(), d.GetResourceNamesSubscribe())
	less := xds.Unask(&ses.demand, d.GetTypeUrl(), d.GetResourceNamesUnsubscribe())
	if n := len(ses.demand.Services) + len(ses.demand.Peers); n > maxDemand {
		return false, status.Errorf(codes.ResourceExhausted, "%d addresses are asked for, the limit is %d", n, maxDemand)
	}
	if more || less {
		ses.asked, ses.loaded = ses.onDemand, false
	}
	return more || less, nil
}
