package xds

import (
	"fmt"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filelogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"hasp/mesh"
)

const fileLogger = "envoy.access_loggers.file"

// jsonFields are Istio's names for what an Envoy writes in JSON. Our own proxy
// writes its mesh.Connection.
var jsonFields = map[string]string{
	"start_time":                        "%START_TIME%",
	"method":                            "%REQ(:METHOD)%",
	"path":                              "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
	"protocol":                          "%PROTOCOL%",
	"response_code":                     "%RESPONSE_CODE%",
	"response_flags":                    "%RESPONSE_FLAGS%",
	"upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
	"bytes_received":                    "%BYTES_RECEIVED%",
	"bytes_sent":                        "%BYTES_SENT%",
	"duration":                          "%DURATION%",
	"request_id":                        "%REQ(X-REQUEST-ID)%",
	"authority":                         "%REQ(:AUTHORITY)%",
	"upstream_host":                     "%UPSTREAM_HOST%",
	"upstream_cluster":                  "%UPSTREAM_CLUSTER%",
	"downstream_local_address":          "%DOWNSTREAM_LOCAL_ADDRESS%",
	"downstream_remote_address":         "%DOWNSTREAM_REMOTE_ADDRESS%",
	"downstream_peer_uri_san":           "%DOWNSTREAM_PEER_URI_SAN%",
	"requested_server_name":             "%REQUESTED_SERVER_NAME%",
	"route_name":                        "%ROUTE_NAME%",
}

// accessLog is the log that an Envoy writes on standard output; TEXT is
// Envoy's own format.
func accessLog(s mesh.Settings) ([]*accesslogv3.AccessLog, error) {
	m := &filelogv3.FileAccessLog{Path: "/dev/stdout"}
	switch s.AccessLog {
	case mesh.LogText:
	case mesh.LogJSON:
		fields := &structpb.Struct{Fields: map[string]*structpb.Value{}}
		for name, operator := range jsonFields {
			fields.Fields[name] = structpb.NewStringValue(operator)
		}
		m.AccessLogFormat = &filelogv3.FileAccessLog_LogFormat{LogFormat: &corev3.SubstitutionFormatString{
			Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: fields},
		}}
	default:
		return nil, nil
	}
	body, err := pack(m)
	if err != nil {
		return nil, err
	}
	return []*accesslogv3.AccessLog{{Name: fileLogger, ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: body}}}, nil
}

// checkAccessLog: it must be the one of the settings, by which a proxy logs.
func checkAccessLog(got []*accesslogv3.AccessLog, s mesh.Settings) error {
	want, err := accessLog(s)
	if err != nil {
		return err
	}
	same := len(got) == len(want)
	for i := range min(len(got), len(want)) {
		same = same && proto.Equal(got[i], want[i])
	}
	if !same {
		return fmt.Errorf("access_log is not that of the settings' form %q", s.AccessLog)
	}
	return nil
}

// connectTimeout of every cluster; Istio's default when nothing is set.
func connectTimeout(s mesh.Settings) *durationpb.Duration {
	if s.ConnectTimeoutMillis == 0 {
		return durationpb.New(10 * time.Second)
	}
	return durationpb.New(time.Duration(s.ConnectTimeoutMillis) * time.Millisecond)
}

func checkConnectTimeout(got *durationpb.Duration, s mesh.Settings) error {
	if want := connectTimeout(s); !proto.Equal(got, want) {
		return fmt.Errorf("connect_timeout %s is not that of the settings, %s", got.AsDuration(), want.AsDuration())
	}
	return nil
}
