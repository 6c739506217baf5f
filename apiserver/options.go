package apiserver

import (
	"fmt"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// query reads the options of a subresource from the address, collecting the
// first error.
type query struct {
	v   url.Values
	err error
}

func (q *query) fail(name string, err error) {
	if q.err == nil && err != nil {
		q.err = apierrors.NewBadRequest(fmt.Sprintf("query parameter %s: %v", name, err))
	}
}

func (q *query) str(name string) string { return q.v.Get(name) }

func (q *query) flag(name string) bool {
	s := q.v.Get(name)
	if s == "" {
		return false
	}
	b, err := strconv.ParseBool(s)
	q.fail(name, err)
	return b
}

// number is nil when absent.
func (q *query) number(name string) *int64 {
	s := q.v.Get(name)
	if s == "" {
		return nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil && n < 0 {
		err = fmt.Errorf("%d is negative", n)
	}
	q.fail(name, err)
	return &n
}

// logOptions fills o from the query of pods/log.
func logOptions(v url.Values, o *corev1.PodLogOptions) error {
	q := query{v: v}
	o.Container = q.str("container")
	o.Follow, o.Previous, o.Timestamps = q.flag("follow"), q.flag("previous"), q.flag("timestamps")
	o.SinceSeconds, o.TailLines, o.LimitBytes = q.number("sinceSeconds"), q.number("tailLines"), q.number("limitBytes")
	if s := q.str("sinceTime"); s != "" {
		t, err := time.Parse(time.RFC3339, s)
		q.fail("sinceTime", err)
		o.SinceTime = &metav1.Time{Time: t}
	}
	if s := q.str("stream"); s != "" {
		o.Stream = &s
	}
	return q.err
}

// attachOptions fills o from the query of pods/attach.
func attachOptions(v url.Values, o *corev1.PodAttachOptions) error {
	q := query{v: v}
	o.Container = q.str("container")
	o.Stdin, o.Stdout, o.Stderr, o.TTY = q.flag("stdin"), q.flag("stdout"), q.flag("stderr"), q.flag("tty")
	return q.err
}
