package xds

import (
	"encoding/json"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"hasp/mesh"
)

// Limits of one message of a report, against a proxy gone mad.
const (
	MaxReportBytes   = 4 << 20
	MaxReportEntries = 2000

	maxEntryBytes = 512 << 10 // of one entry, and of who sends
)

// Names under which ours rides in Envoy's messages.
const (
	reportKey     = "hasp.report"     // of the node's metadata: the report without its lists, JSON
	edgeKey       = "hasp.edge"       // of an entry's filter state: a mesh.Edge, JSON in a BytesValue
	connectionKey = "hasp.connection" // likewise, a mesh.Connection
)

// EncodeReport writes a report as messages of Envoy's access log service: one
// TCP entry for each connection, with Envoy's fields filled in for whoever else
// reads such logs, and for each edge. Texts and lists that are too long are cut.
//
// It is more than one message when the limits ask for it; each is then a report,
// and only the first of them is whole.
func EncodeReport(r *mesh.Report) ([]*alsv3.StreamAccessLogsMessage, error) {
	e := reportEncoder{head: *r}
	e.head.Edges, e.head.Connections = nil, nil
	for i := range r.Edges {
		entry, err := edgeEntry(&r.Edges[i])
		if err == nil {
			err = e.add(entry)
		}
		if err != nil {
			return nil, fmt.Errorf("xds: report: edge %d: %w", i, err)
		}
	}
	for i := range r.Connections {
		entry, err := connectionEntry(&r.Connections[i])
		if err == nil {
			err = e.add(entry)
		}
		if err != nil {
			return nil, fmt.Errorf("xds: report: connection %d: %w", i, err)
		}
	}
	if len(e.entries) > 0 || len(e.out) == 0 {
		if err := e.flush(); err != nil {
			return nil, fmt.Errorf("xds: report: %w", err)
		}
	}
	return e.out, nil
}

// reportEncoder fills message after message.
type reportEncoder struct {
	head    mesh.Report
	out     []*alsv3.StreamAccessLogsMessage
	entries []*accesslogv3.TCPAccessLogEntry
	size    int
}

func (e *reportEncoder) add(entry *accesslogv3.TCPAccessLogEntry) error {
	size := proto.Size(entry) + 16
	if len(e.entries) == MaxReportEntries || e.size+size > MaxReportBytes-maxEntryBytes {
		if err := e.flush(); err != nil {
			return err
		}
	}
	e.entries = append(e.entries, entry)
	e.size += size
	return nil
}

func (e *reportEncoder) flush() error {
	head, err := encodeJSON(&e.head)
	if err != nil {
		return err
	}
	m := &alsv3.StreamAccessLogsMessage{Identifier: &alsv3.StreamAccessLogsMessage_Identifier{
		LogName: "hasp",
		Node: &corev3.Node{Id: clipText(e.head.Node), UserAgentName: "hasp-proxy", Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			reportKey: structpb.NewStringValue(string(head)),
		}}},
	}}
	// Without entries there is only who reports and the state of it. An Envoy
	// sends no such message.
	if len(e.entries) > 0 {
		m.LogEntries = &alsv3.StreamAccessLogsMessage_TcpLogs{TcpLogs: &alsv3.StreamAccessLogsMessage_TCPAccessLogEntries{LogEntry: e.entries}}
	}
	e.out = append(e.out, m)
	e.head.Whole, e.entries, e.size = false, nil, 0
	return nil
}

// reportHead is a report whose lists cannot be in its JSON.
type reportHead struct {
	mesh.Report
	Edges       *struct{} `json:"edges,omitempty"`
	Connections *struct{} `json:"connections,omitempty"`
}

// state is a value of ours as it rides in an entry.
func state(key string, v any) (map[string]*anypb.Any, error) {
	b, err := encodeJSON(v)
	if err != nil {
		return nil, err
	}
	a, err := anypb.New(wrapperspb.Bytes(b))
	if err != nil {
		return nil, err
	}
	return map[string]*anypb.Any{key: a}, nil
}

// DecodeReport reads one message as it was on the wire, ours or any Envoy's,
// which has no Start, At and Generation. Node is as the sender calls itself, ""
// when this message does not say. Nothing in it is to be believed.
//
// It takes bytes, and its entries one after the other, because a message of a
// few megabytes can be made to need a hundred times that when it is read whole.
func DecodeReport(wire []byte) (*mesh.Report, error) {
	if len(wire) > MaxReportBytes {
		return nil, fmt.Errorf("xds: a message of a report has %d bytes, the limit is %d", len(wire), MaxReportBytes)
	}
	d := reportDecoder{r: &mesh.Report{}}
	err := fields(wire, func(field protowire.Number, value []byte) error {
		switch field {
		case 1: // identifier
			return d.identifier(value)
		case 2: // http_logs
			return fields(value, d.entry(func() haspEntry { return new(accesslogv3.HTTPAccessLogEntry) }))
		case 3: // tcp_logs
			return fields(value, d.entry(func() haspEntry { return new(accesslogv3.TCPAccessLogEntry) }))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("xds: report: %w", err)
	}
	return d.r, nil
}

// haspEntry is what entries of both kinds have.
type haspEntry interface {
	proto.Message
	GetCommonProperties() *accesslogv3.AccessLogCommon
}

type reportDecoder struct {
	r       *mesh.Report
	entries int
}

func (d *reportDecoder) identifier(b []byte) error {
	if len(b) > maxEntryBytes {
		return fmt.Errorf("the identifier has %d bytes, the limit is %d", len(b), maxEntryBytes)
	}
	var id alsv3.StreamAccessLogsMessage_Identifier
	if err := proto.Unmarshal(b, &id); err != nil {
		return err
	}
	if head := id.GetNode().GetMetadata().GetFields()[reportKey].GetStringValue(); head != "" {
		var h reportHead
		if err := decodeJSON([]byte(head), &h); err != nil {
			return fmt.Errorf("metadata %s: %w", reportKey, err)
		}
		h.Report.Edges, h.Report.Connections = d.r.Edges, d.r.Connections
		d.r = &h.Report
	}
	d.r.Node = id.GetNode().GetId()
	if len(d.r.Node) > maxText {
		return fmt.Errorf("node.id is longer than %d bytes", maxText)
	}
	return nil
}

// entry reads the repeated field of entries of one kind.
func (d *reportDecoder) entry(empty func() haspEntry) func(protowire.Number, []byte) error {
	return func(field protowire.Number, value []byte) error {
		if field != 1 { // log_entry
			return nil
		}
		if d.entries++; d.entries > MaxReportEntries {
			return fmt.Errorf("it has more than %d entries", MaxReportEntries)
		}
		if len(value) > maxEntryBytes {
			return fmt.Errorf("entry %d has %d bytes, the limit is %d", d.entries-1, len(value), maxEntryBytes)
		}
		e := empty()
		if err := proto.Unmarshal(value, e); err != nil {
			return fmt.Errorf("entry %d: %w", d.entries-1, err)
		}
		if err := d.take(e); err != nil {
			return fmt.Errorf("entry %d: %w", d.entries-1, err)
		}
		return nil
	}
}

func (d *reportDecoder) take(e haspEntry) error {
	for key, v := range e.GetCommonProperties().GetFilterStateObjects() {
		switch key {
		case edgeKey:
			var edge mesh.Edge
			if err := readState(v, &edge); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			if err := directed(edge.Direction); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			d.r.Edges = append(d.r.Edges, edge)
			return nil
		case connectionKey:
			var c mesh.Connection
			if err := readState(v, &c); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			if err := directed(c.Direction); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			d.r.Connections = append(d.r.Connections, c)
			return nil
		}
	}
	d.r.Connections = append(d.r.Connections, envoyConnection(e))
	return nil
}

func directed(d mesh.Direction) error {
	if d != mesh.InboundDir && d != mesh.OutboundDir {
		return fmt.Errorf("direction %q is not known", clipText(string(d)))
	}
	return nil
}

func readState(a *anypb.Any, into any) error {
	var b wrapperspb.BytesValue
	if err := a.UnmarshalTo(&b); err != nil {
		return err
	}
	return decodeJSON(b.GetValue(), into)
}

// fields calls f with each field of a message that is a message or a text.
func fields(b []byte, f func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(field, kind, b); n < 0 {
				return protowire.ParseError(n)
			}
			b = b[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if err := f(field, value); err != nil {
			return err
		}
	}
	return nil
}

// encodeJSON of a value whose texts and lists are cut where they are too long.
func encodeJSON(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil || withinLimits(v) {
		return b, err
	}
	short, err := clipped(v, b)
	if err != nil {
		return nil, err
	}
	return json.Marshal(short)
}

func decodeJSON(b []byte, into any) error {
	if err := json.Unmarshal(b, into); err != nil {
		return err
	}
	return tidy(into)
}
