package inject

import (
	"math"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// userRangeKey is where OpenShift writes the users that the restricted
// SecurityContextConstraints allow in a namespace: FIRST/SIZE or FIRST-LAST.
const userRangeKey = "openshift.io/sa.scc.uid-range"

// userOf is the sidecar's user in a namespace. On OpenShift the restricted
// SecurityContextConstraints allow only users of the namespace's own range: if
// the usual one is not in it, it is the last of the range, as in Istio, because
// the applications are given the first.
func userOf(ns *corev1.Namespace, usual int64) int64 {
	if ns == nil {
		return usual
	}
	first, last, ok := userRange(ns.Annotations[userRangeKey])
	if !ok || usual >= first && usual <= last {
		return usual
	}
	return last
}

// userRange reads OpenShift's annotation; what cannot be read is no range, since
// OpenShift itself refuses pods in such a namespace.
func userRange(s string) (first, last int64, ok bool) {
	from, size, block := strings.Cut(s, "/")
	if !block {
		from, size, ok = strings.Cut(s, "-")
		if !ok {
			return 0, 0, false
		}
	}
	first, err := strconv.ParseInt(from, 10, 64)
	n, err2 := strconv.ParseInt(size, 10, 64)
	if err != nil || err2 != nil || first < 1 || n < 1 || first > math.MaxInt32 || n > math.MaxInt32 {
		return 0, 0, false
	}
	last = n
	if block {
		last = first + n - 1
	}
	return first, last, last >= first && last <= math.MaxInt32
}
