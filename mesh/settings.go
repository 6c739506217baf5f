package mesh

// Settings are how a proxy behaves whatever it carries: the part of the
// mesh-wide settings (Istio's MeshConfig and its defaultConfig) that is no
// policy. A zero field leaves the matter to the proxy.
type Settings struct {
	// AccessLog is the form of the access log on standard output, from
	// accessLogFile and accessLogEncoding.
	AccessLog LogForm `json:"accessLog,omitempty"`
	// ConnectTimeoutMillis bounds one attempt to reach an endpoint, in
	// milliseconds (connectTimeout).
	ConnectTimeoutMillis int64 `json:"connectTimeoutMillis,omitempty"`
	// DrainMillis is how long requests on a port that the configuration closes
	// may go on (defaultConfig.drainDuration).
	DrainMillis int64 `json:"drainMillis,omitempty"`
	// TerminationDrainMillis is how long connections may go on when the proxy is
	// asked to end (defaultConfig.terminationDrainDuration).
	TerminationDrainMillis int64 `json:"terminationDrainMillis,omitempty"`
	// IdleMillis is how long a connection may be silent before it is ended
	// (defaultConfig.proxyMetadata.ISTIO_META_IDLE_TIMEOUT).
	IdleMillis int64 `json:"idleMillis,omitempty"`
	// NoTrunks has each connection to another sidecar make a handshake of its own
	// (defaultConfig.proxyMetadata.HASP_TRUNKS).
	NoTrunks bool `json:"noTrunks,omitempty"`
}

// LogForm is the form of an access log. The zero value is whatever the proxy
// was started with.
type LogForm string

const (
	LogAsStarted LogForm = ""
	LogOff       LogForm = "OFF"
	LogText      LogForm = "TEXT"
	LogJSON      LogForm = "JSON"
)

// Known reports whether the form is one of the four.
func (f LogForm) Known() bool {
	switch f {
	case LogAsStarted, LogOff, LogText, LogJSON:
		return true
	}
	return false
}
