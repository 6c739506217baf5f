package policy

import (
	"strings"

	"hasp/api"
)

// ruleHost is the host of a DestinationRule written out: a short name (no dot)
// is a service of the RULE's namespace; anything with a dot stands as it is,
// so "boards.shop" is not boards.shop.svc.cluster.local.
func ruleHost(host, ruleNamespace string) string {
	if host == "*" || strings.Contains(host, ".") {
		return host
	}
	return host + "." + ruleNamespace + ".svc." + api.DomainSuffix
}

// hostMatches reports whether a rule's written-out host covers a hostname: the
// same, "*", or "*.suffix", which covers every name under the suffix and not
// the suffix itself.
func hostMatches(host, hostname string) bool {
	if host == "*" || host == hostname {
		return true
	}
	suffix, wild := strings.CutPrefix(host, "*")
	return wild && strings.HasPrefix(suffix, ".") && strings.HasSuffix(hostname, suffix)
}

// isWildcard reports whether a rule's host is a pattern. A service may itself
// be named by a pattern (ServiceEntry "*.example.com"); a rule for exactly that
// still is one.
func isWildcard(host string) bool { return strings.HasPrefix(host, "*") }
