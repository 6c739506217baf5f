package inject

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestUserOf(t *testing.T) {
	for written, want := range map[string]int64{
		"":                       1337,
		"1000620000/10000":       1000629999,
		"1000620000-1000629999":  1000629999,
		"1000/1":                 1000,
		"1000/1000":              1337, // the usual one is allowed
		"1337-1337":              1337,
		"0/10":                   1337,
		"10/0":                   1337,
		"20-10":                  1337,
		"ten/ten":                1337,
		"2147483647/2":           1337,
		"9223372036854775807/10": 1337,
	} {
		ns := &corev1.Namespace{}
		ns.Annotations = map[string]string{userRangeKey: written}
		if got := userOf(ns, 1337); got != want {
			t.Errorf("%q: %d, want %d", written, got, want)
		}
	}
	if got := userOf(nil, 1337); got != 1337 {
		t.Errorf("no namespace: %d", got)
	}
}
