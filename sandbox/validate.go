package sandbox

import (
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// validate refuses names that could not be a file's or a host's.
func validate(obj *corev1.Pod) error {
	check := func(what, name string, problems []string) error {
		if len(problems) > 0 {
			return fmt.Errorf("%s %q: %s", what, name, strings.Join(problems, "; "))
		}
		return nil
	}
	err := errors.Join(
		check("name", obj.Name, validation.IsDNS1123Subdomain(obj.Name)),
		check("namespace", obj.Namespace, validation.IsDNS1123Label(obj.Namespace)),
		check("uid", string(obj.UID), validation.IsDNS1123Subdomain(string(obj.UID))))
	for _, list := range [][]corev1.Container{obj.Spec.InitContainers, obj.Spec.Containers} {
		for _, c := range list {
			err = errors.Join(err, check("container", c.Name, validation.IsDNS1123Label(c.Name)))
		}
	}
	for _, v := range obj.Spec.Volumes {
		err = errors.Join(err, check("volume", v.Name, validation.IsDNS1123Label(v.Name)))
	}
	if len(obj.Spec.Containers) == 0 {
		err = errors.Join(err, errors.New("the pod has no containers"))
	}
	return err
}
