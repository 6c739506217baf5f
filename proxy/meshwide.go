package proxy

import (
	"time"

	"hasp/mesh"
)

// What mesh-wide settings may say otherwise than Config is asked for when it is
// needed, so that a change holds from the next connection on.

// meshwide are the settings in force; all zero before the first configuration.
func (p *Proxy) meshwide() mesh.Settings {
	if s := p.settings.Load(); s != nil {
		return s.config.Settings
	}
	return mesh.Settings{}
}

// connectTimeout of one attempt to reach an endpoint or the workload.
func (p *Proxy) connectTimeout() time.Duration {
	return either(p.meshwide().ConnectTimeoutMillis, p.cfg.ConnectTimeout)
}

// drainTime is how long requests on a port that the configuration closed may
// go on.
func (p *Proxy) drainTime() time.Duration {
	return either(p.meshwide().DrainMillis, p.cfg.DrainTimeout)
}

// terminationDrain is how long connections may go on when Run is to end.
func (p *Proxy) terminationDrain() time.Duration {
	return either(p.meshwide().TerminationDrainMillis, p.cfg.DrainTimeout)
}

func either(millis int64, otherwise time.Duration) time.Duration {
	if millis > 0 {
		return time.Duration(millis) * time.Millisecond
	}
	return otherwise
}
