package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/endpoints/responsewriter"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// statusWait is how long a client may take to read how it ended.
const statusWait = 10 * time.Second

// serveWebSocket attaches over v5.channel.k8s.io, what kubectl has spoken since
// 1.30. The streaming library, a kubelet's, knows only v4 and SPDY: on a cluster
// the API server translates.
func serveWebSocket(w http.ResponseWriter, req *http.Request, o *corev1.PodAttachOptions, attach func(ctx context.Context, in io.Reader, out, errw io.WriteCloser) error) {
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		remotecommand.StreamProtocolV5Name: {Binary: true, Channels: channels(o)},
	})
	conn.SetIdleTimeout(attachIdle)
	_, streams, err := conn.Open(responsewriter.GetOriginal(w), req)
	if err != nil {
		return // Open has answered
	}
	defer conn.Close()
	// An empty message tells the client that it is connected.
	first := remotecommand.StreamErr
	if o.Stdout {
		first = remotecommand.StreamStdOut
	} else if o.Stderr {
		first = remotecommand.StreamStdErr
	}
	if _, err := streams[first].Write(nil); err != nil {
		return
	}
	// The terminals here have no size, but unread sizes would block the input.
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		io.Copy(io.Discard, streams[remotecommand.StreamResize])
	}()
	defer func() { conn.Close(); <-drained }()

	var in io.Reader
	var out, errw io.WriteCloser
	if o.Stdin {
		in = streams[remotecommand.StreamStdIn]
	}
	if o.Stdout {
		out = streams[remotecommand.StreamStdOut]
	}
	if o.Stderr {
		errw = streams[remotecommand.StreamStdErr]
	}
	status := metav1.Status{Status: metav1.StatusSuccess}
	if err := attach(req.Context(), in, out, errw); err != nil {
		status = apierrors.NewInternalError(fmt.Errorf("error attaching to container: %w", err)).Status()
	}
	if b, err := json.Marshal(status); err == nil {
		conn.SetWriteDeadline(statusWait)
		streams[remotecommand.StreamErr].Write(b) // else the client is gone
	}
}

// channels by the numbers of the protocol.
func channels(o *corev1.PodAttachOptions) []wsstream.ChannelType {
	use := func(yes bool, t wsstream.ChannelType) wsstream.ChannelType {
		if yes {
			return t
		}
		return wsstream.IgnoreChannel
	}
	return []wsstream.ChannelType{
		remotecommand.StreamStdIn:  use(o.Stdin, wsstream.ReadChannel),
		remotecommand.StreamStdOut: use(o.Stdout, wsstream.WriteChannel),
		remotecommand.StreamStdErr: use(o.Stderr, wsstream.WriteChannel),
		remotecommand.StreamErr:    wsstream.WriteChannel,
		remotecommand.StreamResize: wsstream.ReadChannel,
	}
}
