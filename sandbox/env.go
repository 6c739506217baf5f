package sandbox

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// environment of a program.
type environment map[string]string

func (e environment) list() []string {
	out := make([]string, 0, len(e))
	for _, k := range slices.Sorted(maps.Keys(e)) {
		out = append(out, k+"="+e[k])
	}
	return out
}

func (e environment) expandAll(in []string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = e.expand(s)
	}
	return out
}

// expand replaces $(NAME) by a variable's value, as Kubernetes does in command,
// args and env: an unknown name stays as it is, $$ is one dollar.
func (e environment) expand(s string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i == len(s)-1 {
			return b.String() + s
		}
		b.WriteString(s[:i])
		s = s[i:]
		switch s[1] {
		case '$':
			b.WriteByte('$')
			s = s[2:]
		case '(':
			end := strings.IndexByte(s, ')')
			if end < 0 {
				return b.String() + s
			}
			if v, ok := e[s[2:end]]; ok {
				b.WriteString(v)
			} else {
				b.WriteString(s[:end+1])
			}
			s = s[end+1:]
		default:
			b.WriteString(s[:2])
			s = s[2:]
		}
	}
}

// environment that a container asks for, on top of the image's.
func (p *pod) environment(ctx context.Context, obj *corev1.Pod, c *container) (environment, error) {
	e := environment{"PATH": p.s.cfg.Path, "HOME": podDir, "TMPDIR": "/tmp", "HOSTNAME": hostnameOf(obj), "LANG": "C.UTF-8"}
	maps.Copy(e, c.image.Env)
	refs := references{p: p, ctx: ctx, namespace: obj.Namespace}
	for _, from := range c.spec.EnvFrom {
		var data map[string]string
		var err error
		switch {
		case from.ConfigMapRef != nil:
			data, err = refs.configMap(from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
		case from.SecretRef != nil:
			data, err = refs.secret(from.SecretRef.Name, from.SecretRef.Optional)
		}
		if err != nil {
			return nil, err
		}
		for k, v := range data {
			e[from.Prefix+k] = v
		}
	}
	for _, v := range c.spec.Env {
		value := e.expand(v.Value)
		if v.ValueFrom != nil {
			found, ok, err := refs.value(obj, p, *v.ValueFrom)
			if err != nil {
				return nil, fmt.Errorf("variable %s: %w", v.Name, err)
			}
			if !ok {
				continue
			}
			value = found
		}
		e[v.Name] = value
	}
	return e, nil
}

// references reads the ConfigMaps and Secrets that a pod names.
type references struct {
	p         *pod
	ctx       context.Context
	namespace string
}

func (r references) configMap(name string, optional *bool) (map[string]string, error) {
	cm, err := r.p.s.cfg.Client.CoreV1().ConfigMaps(r.namespace).Get(r.ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, tolerate(err, optional)
	}
	out := maps.Clone(cm.Data)
	if out == nil {
		out = map[string]string{}
	}
	for k, v := range cm.BinaryData {
		out[k] = string(v)
	}
	return out, nil
}

func (r references) secret(name string, optional *bool) (map[string]string, error) {
	s, err := r.p.s.cfg.Client.CoreV1().Secrets(r.namespace).Get(r.ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, tolerate(err, optional)
	}
	out := make(map[string]string, len(s.Data))
	for k, v := range s.Data {
		out[k] = string(v)
	}
	return out, nil
}

// tolerate forgives the absence of what is optional.
func tolerate(err error, optional *bool) error {
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return nil
	}
	return err
}

// value of a variable; not ok when it is optional and not there.
func (r references) value(obj *corev1.Pod, p *pod, src corev1.EnvVarSource) (v string, ok bool, err error) {
	var data map[string]string
	var key string
	var optional *bool
	switch {
	case src.FieldRef != nil:
		v, err := p.field(obj, src.FieldRef.FieldPath)
		return v, err == nil, err
	case src.ConfigMapKeyRef != nil:
		key, optional = src.ConfigMapKeyRef.Key, src.ConfigMapKeyRef.Optional
		data, err = r.configMap(src.ConfigMapKeyRef.Name, optional)
	case src.SecretKeyRef != nil:
		key, optional = src.SecretKeyRef.Key, src.SecretKeyRef.Optional
		data, err = r.secret(src.SecretKeyRef.Name, optional)
	default:
		return "", false, fmt.Errorf("its source is not supported here: only fieldRef, configMapKeyRef and secretKeyRef are")
	}
	if err != nil {
		return "", false, err
	}
	v, ok = data[key]
	if !ok && (optional == nil || !*optional) {
		return "", false, fmt.Errorf("there is no key %q", key)
	}
	return v, ok, nil
}

// field of the pod, by the paths of the downward API.
func (p *pod) field(obj *corev1.Pod, path string) (string, error) {
	p.mu.Lock()
	ip4, ip6 := p.ip4, p.ip6
	p.mu.Unlock()
	switch path {
	case "metadata.name":
		return obj.Name, nil
	case "metadata.namespace":
		return obj.Namespace, nil
	case "metadata.uid":
		return string(obj.UID), nil
	case "spec.serviceAccountName":
		return accountOf(obj), nil
	case "spec.nodeName":
		return NodeName, nil
	case "status.podIP":
		return ip4, nil
	case "status.podIPs":
		return ip4 + "," + ip6, nil
	case "status.hostIP":
		return Gateway.String(), nil
	}
	for prefix, set := range map[string]map[string]string{"metadata.labels['": obj.Labels, "metadata.annotations['": obj.Annotations} {
		if rest, ok := strings.CutPrefix(path, prefix); ok {
			return set[strings.TrimSuffix(rest, "']")], nil
		}
	}
	return "", fmt.Errorf("field %q is not supported here", path)
}

// accountOf is the pod's service account.
func accountOf(obj *corev1.Pod) string {
	if obj.Spec.ServiceAccountName == "" {
		return "default"
	}
	return obj.Spec.ServiceAccountName
}
