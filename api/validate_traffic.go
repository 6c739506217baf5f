package api

import (
	networkingapi "istio.io/api/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateConnectionPool(p *field.Path, s *networkingapi.ConnectionPoolSettings) field.ErrorList {
	if s == nil {
		return nil
	}
	if s.Http == nil && s.Tcp == nil {
		return field.ErrorList{field.Required(p, "connection pool must have at least one field; add tcp or http, or remove it")}
	}
	var errs field.ErrorList
	if h, at := s.Http, p.Child("http"); h != nil {
		errs = append(errs, notNegative(at, map[string]int32{
			"http1MaxPendingRequests":  h.Http1MaxPendingRequests,
			"http2MaxRequests":         h.Http2MaxRequests,
			"maxRequestsPerConnection": h.MaxRequestsPerConnection,
			"maxRetries":               h.MaxRetries,
			"maxConcurrentStreams":     h.MaxConcurrentStreams,
		})...)
		errs = append(errs, validateDuration(at.Child("idleTimeout"), h.IdleTimeout)...)
		if h.H2UpgradePolicy == networkingapi.ConnectionPoolSettings_HTTPSettings_UPGRADE && h.UseClientProtocol {
			errs = append(errs, field.Forbidden(at.Child("useClientProtocol"), "use client protocol must not be true when H2UpgradePolicy is UPGRADE; keep one"))
		}
	}
	if t, at := s.Tcp, p.Child("tcp"); t != nil {
		errs = append(errs, notNegative(at, map[string]int32{"maxConnections": t.MaxConnections})...)
		errs = append(errs, validateDuration(at.Child("connectTimeout"), t.ConnectTimeout)...)
		errs = append(errs, validateDuration(at.Child("maxConnectionDuration"), t.MaxConnectionDuration)...)
		errs = append(errs, validateDuration(at.Child("idleTimeout"), t.IdleTimeout)...)
		errs = append(errs, validateDuration(at.Child("tcpKeepalive", "time"), t.TcpKeepalive.GetTime())...)
		errs = append(errs, validateDuration(at.Child("tcpKeepalive", "interval"), t.TcpKeepalive.GetInterval())...)
	}
	return errs
}

func validateOutlierDetection(p *field.Path, s *networkingapi.OutlierDetection) field.ErrorList {
	if s == nil {
		return nil
	}
	errs := validateDuration(p.Child("baseEjectionTime"), s.BaseEjectionTime)
	errs = append(errs, validateDuration(p.Child("interval"), s.Interval)...)
	errs = append(errs, validatePercent(p.Child("maxEjectionPercent"), s.MaxEjectionPercent)...)
	errs = append(errs, validatePercent(p.Child("minHealthPercent"), s.MinHealthPercent)...)
	if !s.SplitExternalLocalOriginErrors && s.ConsecutiveLocalOriginFailures.GetValue() > 0 {
		errs = append(errs, field.Forbidden(p.Child("consecutiveLocalOriginFailures"),
			"outlier detection consecutive local origin failures is specified, but split external local origin errors is set to false; set splitExternalLocalOriginErrors: true"))
	}
	return errs
}

func validateLoadBalancer(p *field.Path, s *networkingapi.LoadBalancerSettings) field.ErrorList {
	if s == nil {
		return nil
	}
	errs := validateDuration(p.Child("warmupDurationSecs"), s.WarmupDurationSecs)
	hash := s.GetConsistentHash()
	if c := hash.GetHttpCookie(); c != nil && c.Name == "" {
		errs = append(errs, field.Required(p.Child("consistentHash", "httpCookie", "name"), "name required for HttpCookie"))
	}
	if m := hash.GetMaglev(); m != nil {
		size := p.Child("consistentHash", "maglev", "tableSize")
		switch {
		case m.TableSize == 0:
			errs = append(errs, field.Required(size, "tableSize must be set for maglev; 65537 is usual"))
		case m.TableSize >= 5000011:
			errs = append(errs, field.Invalid(size, m.TableSize, "tableSize must be less than 5000011 for maglev; 65537 is usual"))
		case !isPrime(m.TableSize):
			errs = append(errs, field.Invalid(size, m.TableSize, "tableSize must be a prime number for maglev; 65537 is usual"))
		}
	}
	return errs
}

// isPrime by trial division; the table is small.
func isPrime(n uint64) bool {
	if n < 2 {
		return false
	}
	for f := uint64(2); f*f <= n; f++ {
		if n%f == 0 {
			return false
		}
	}
	return true
}
