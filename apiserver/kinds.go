package apiserver

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// builtin are the kinds that need no CustomResourceDefinition.
func builtin(node string) []anyKind {
	return []anyKind{
		namespaceKind(), serviceKind(), serviceAccountKind(), secretKind(), configMapKind(),
		podKind(node), eventKind(), nodeKind(), deploymentKind(),
	}
}

func serviceAccountKind() anyKind {
	return kind[corev1.ServiceAccount]{
		gv: corev1.SchemeGroupVersion, resource: "serviceaccounts", singular: "serviceaccount", shortNames: []string{"sa"},
		newObject: func() runtime.Object { return &corev1.ServiceAccount{} },
		newList:   func() runtime.Object { return &corev1.ServiceAccountList{} },
	}
}

func configMapKind() anyKind {
	return kind[corev1.ConfigMap]{
		gv: corev1.SchemeGroupVersion, resource: "configmaps", singular: "configmap", shortNames: []string{"cm"},
		newObject: func() runtime.Object { return &corev1.ConfigMap{} },
		newList:   func() runtime.Object { return &corev1.ConfigMapList{} },
		validate: func(c *corev1.ConfigMap) field.ErrorList {
			errs := dataKeys(c.Data, field.NewPath("data"))
			errs = append(errs, dataKeys(c.BinaryData, field.NewPath("binaryData"))...)
			for k := range c.BinaryData {
				if _, twice := c.Data[k]; twice {
					errs = append(errs, field.Invalid(field.NewPath("data").Key(k), k, "duplicate of key present in binaryData"))
				}
			}
			return errs
		},
		validateUpdate: func(n, o *corev1.ConfigMap) field.ErrorList {
			if o.Immutable != nil && *o.Immutable && (n.Immutable == nil || !*n.Immutable || !equal(n.Data, o.Data) || !equal(n.BinaryData, o.BinaryData)) {
				return field.ErrorList{field.Forbidden(field.NewPath("data"), "field is immutable when `immutable` is set")}
			}
			return nil
		},
		columns: columns("Name", "Data", "Age"),
		row: func(c *corev1.ConfigMap) []any {
			return []any{c.Name, fmt.Sprint(len(c.Data) + len(c.BinaryData)), age(c)}
		},
	}
}

func secretKind() anyKind {
	return kind[corev1.Secret]{
		gv: corev1.SchemeGroupVersion, resource: "secrets", singular: "secret",
		newObject: func() runtime.Object { return &corev1.Secret{} },
		newList:   func() runtime.Object { return &corev1.SecretList{} },
		defaults: func(s *corev1.Secret) {
			if s.Type == "" {
				s.Type = corev1.SecretTypeOpaque
			}
		},
		create:         foldStringData,
		validate:       validateSecret,
		validateUpdate: validateSecretUpdate,
		fields:         func(s *corev1.Secret) fields.Set { return fields.Set{"type": string(s.Type)} },
		columns:        columns("Name", "Type", "Data", "Age"),
		row:            func(s *corev1.Secret) []any { return []any{s.Name, string(s.Type), fmt.Sprint(len(s.Data)), age(s)} },
	}
}

// foldStringData turns the write-only field into data.
func foldStringData(s *corev1.Secret) {
	for k, v := range s.StringData {
		if s.Data == nil {
			s.Data = map[string][]byte{}
		}
		s.Data[k] = []byte(v)
	}
	s.StringData = nil
}

func validateSecret(s *corev1.Secret) field.ErrorList {
	errs := dataKeys(s.Data, field.NewPath("data"))
	if s.Type == corev1.SecretTypeTLS {
		for _, k := range []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey} {
			if _, ok := s.Data[k]; !ok {
				errs = append(errs, field.Required(field.NewPath("data").Key(k), ""))
			}
		}
	}
	return errs
}

func validateSecretUpdate(n, o *corev1.Secret) field.ErrorList {
	errs := validation.ValidateImmutableField(n.Type, o.Type, field.NewPath("type"))
	if o.Immutable != nil && *o.Immutable && !equal(n.Data, o.Data) {
		errs = append(errs, field.Forbidden(field.NewPath("data"), "field is immutable when `immutable` is set"))
	}
	return errs
}

func dataKeys[V any](m map[string]V, p *field.Path) (errs field.ErrorList) {
	for k := range m {
		for _, msg := range utilvalidation.IsConfigMapKey(k) {
			errs = append(errs, field.Invalid(p.Key(k), k, msg))
		}
	}
	return errs
}

func nodeKind() anyKind {
	return kind[corev1.Node]{
		gv: corev1.SchemeGroupVersion, resource: "nodes", singular: "node", shortNames: []string{"no"}, clusterScoped: true,
		newObject:  func() runtime.Object { return &corev1.Node{} },
		newList:    func() runtime.Object { return &corev1.NodeList{} },
		keepStatus: func(to, from *corev1.Node) { to.Status = from.Status },
		keepSpec:   func(to, from *corev1.Node) { to.Spec = from.Spec },
		columns:    columns("Name", "Status", "Roles", "Age", "Version", "|", "Internal-IP"),
		row: func(n *corev1.Node) []any {
			ready, ip := "Unknown", "<none>"
			for _, c := range n.Status.Conditions {
				if c.Type == corev1.NodeReady {
					ready = map[corev1.ConditionStatus]string{corev1.ConditionTrue: "Ready"}[c.Status]
					if ready == "" {
						ready = "NotReady"
					}
				}
			}
			for _, a := range n.Status.Addresses {
				if a.Type == corev1.NodeInternalIP {
					ip = a.Address
					break
				}
			}
			return []any{n.Name, ready, "<none>", age(n), n.Status.NodeInfo.KubeletVersion, ip}
		},
	}
}

func eventKind() anyKind {
	return kind[corev1.Event]{
		gv: corev1.SchemeGroupVersion, resource: "events", singular: "event", shortNames: []string{"ev"},
		newObject: func() runtime.Object { return &corev1.Event{} },
		newList:   func() runtime.Object { return &corev1.EventList{} },
		ttl:       time.Hour, // as on a cluster
		validate: func(e *corev1.Event) field.ErrorList {
			if e.InvolvedObject.Namespace != "" && e.InvolvedObject.Namespace != e.Namespace {
				return field.ErrorList{field.Invalid(field.NewPath("involvedObject", "namespace"), e.InvolvedObject.Namespace, "does not match event.namespace")}
			}
			return nil
		},
		fields: func(e *corev1.Event) fields.Set {
			o := e.InvolvedObject
			return fields.Set{"involvedObject.kind": o.Kind, "involvedObject.namespace": o.Namespace, "involvedObject.name": o.Name,
				"involvedObject.uid": string(o.UID), "involvedObject.apiVersion": o.APIVersion, "involvedObject.resourceVersion": o.ResourceVersion,
				"involvedObject.fieldPath": o.FieldPath, "reason": e.Reason, "type": e.Type, "source": e.Source.Component, "reportingComponent": e.ReportingController}
		},
		columns: columns("Last Seen", "Type", "Reason", "Object", "Message"),
		row: func(e *corev1.Event) []any {
			last := e.LastTimestamp
			if last.IsZero() {
				last.Time = e.EventTime.Time
			}
			return []any{since(last), e.Type, e.Reason, strings.ToLower(e.InvolvedObject.Kind) + "/" + e.InvolvedObject.Name, strings.TrimSpace(e.Message)}
		},
	}
}
