package xds

import (
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"hasp/mesh"
)

// Endpoints are by far the most of what is sent, so their metadata is built and
// taken apart field by field and not by way of JSON as the rest.

// tlsModeIstio says that a proxy of the mesh terminates TLS at the endpoint.
const tlsModeIstio = "istio"

func tlsModeMatch() *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{"tlsMode": structpb.NewStringValue(tlsModeIstio)}}
}

// endpointMetadata of an endpoint in a cluster for the port. The workload is
// written as Istio does: NAME;NAMESPACE and three parts (canonical service,
// revision, cluster) that have no meaning here.
func endpointMetadata(port uint16, ep mesh.Endpoint) (*corev3.Metadata, error) {
	all := map[string]*structpb.Struct{}
	put := func(key, field string, v *structpb.Value) {
		if all[key] == nil {
			all[key] = &structpb.Struct{Fields: map[string]*structpb.Value{}}
		}
		all[key].Fields[field] = v
	}
	if ep.Workload != "" {
		ns, name, ok := strings.Cut(ep.Workload, "/")
		if !ok || strings.Contains(ep.Workload, ";") {
			return nil, fmt.Errorf("workload %q is not NAMESPACE/NAME", ep.Workload)
		}
		put(istioKey, "workload", structpb.NewStringValue(name+";"+ns+";;;"))
	}
	if ep.Identity != "" {
		put(istioKey, "identity", structpb.NewStringValue(ep.Identity))
	}
	if ep.Sidecar {
		all[matchKey] = tlsModeMatch()
	}
	if ep.ServicePort != port {
		put(haspKey, "servicePort", structpb.NewNumberValue(float64(ep.ServicePort)))
	}
	if len(ep.Labels) > 0 {
		labels := make(map[string]*structpb.Value, len(ep.Labels))
		for k, v := range ep.Labels {
			labels[k] = structpb.NewStringValue(v)
		}
		put(haspKey, "labels", structpb.NewStructValue(&structpb.Struct{Fields: labels}))
	}
	if len(all) == 0 {
		return nil, nil
	}
	return &corev3.Metadata{FilterMetadata: all}, nil
}

// readEndpointMetadata is the reverse. A field it does not know is an error, as
// in all metadata.
func readEndpointMetadata(md *corev3.Metadata, ep *mesh.Endpoint) error {
	if err := only(md, "filter_metadata"); err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	for key, s := range md.GetFilterMetadata() {
		for field, v := range s.GetFields() {
			if err := readEndpointField(key, field, v, ep); err != nil {
				return fmt.Errorf("metadata %s: %w", key, err)
			}
		}
	}
	return nil
}

func readEndpointField(key, field string, v *structpb.Value, ep *mesh.Endpoint) error {
	switch key + " " + field {
	case istioKey + " workload":
		parts := strings.Split(v.GetStringValue(), ";")
		if len(parts) < 2 {
			return fmt.Errorf("workload %q is not NAME;NAMESPACE", v.GetStringValue())
		}
		ep.Workload = parts[1] + "/" + parts[0]
	case istioKey + " identity":
		ep.Identity = v.GetStringValue()
	case matchKey + " tlsMode":
		ep.Sidecar = v.GetStringValue() == tlsModeIstio
	case haspKey + " servicePort":
		n := v.GetNumberValue()
		if n != float64(uint16(n)) {
			return fmt.Errorf("servicePort %v is not a port", n)
		}
		ep.ServicePort = uint16(n)
	case haspKey + " labels":
		for k, l := range v.GetStructValue().GetFields() {
			if ep.Labels == nil {
				ep.Labels = map[string]string{}
			}
			ep.Labels[k] = l.GetStringValue()
		}
	default:
		return fmt.Errorf("field %s is not supported", field)
	}
	return nil
}
