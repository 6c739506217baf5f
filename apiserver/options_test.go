package apiserver

import (
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestLogOptions(t *testing.T) {
	tail, limit := int64(5), int64(100)
	for _, c := range []struct {
		query string
		want  corev1.PodLogOptions
		err   string
	}{
		{"", corev1.PodLogOptions{}, ""},
		{"container=a&follow=true&tailLines=5&limitBytes=100&timestamps=1", corev1.PodLogOptions{Container: "a", Follow: true, Timestamps: true, TailLines: &tail, LimitBytes: &limit}, ""},
		{"tailLines=-1", corev1.PodLogOptions{}, "query parameter tailLines: -1 is negative"},
		{"follow=maybe", corev1.PodLogOptions{}, `query parameter follow: strconv.ParseBool: parsing "maybe": invalid syntax`},
		{"sinceTime=noon", corev1.PodLogOptions{}, `query parameter sinceTime: parsing time "noon" as "2006-01-02T15:04:05Z07:00": cannot parse "noon" as "2006"`},
	} {
		v, err := url.ParseQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		var got corev1.PodLogOptions
		err = logOptions(v, &got)
		if err != nil {
			if err.Error() != c.err {
				t.Errorf("%s: %v, want %s", c.query, err, c.err)
			}
			continue
		}
		if d := cmp.Diff(c.want, got); d != "" || c.err != "" {
			t.Errorf("%s: want error %q; -want +got:\n%s", c.query, c.err, d)
		}
	}
}

// Whatever a client asks for, numbers are never negative and nothing panics.
func FuzzOptions(f *testing.F) {
	f.Add("container=a&follow=true&tailLines=5&sinceTime=2026-01-02T03:04:05Z&stream=All")
	f.Add("stdin=true&stdout=1&stderr=&tty=0")
	f.Fuzz(func(t *testing.T, query string) {
		v, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		var l corev1.PodLogOptions
		if err := logOptions(v, &l); err == nil {
			for _, n := range []*int64{l.TailLines, l.LimitBytes, l.SinceSeconds} {
				if n != nil && *n < 0 {
					t.Errorf("%s: negative number", query)
				}
			}
		}
		var a corev1.PodAttachOptions
		attachOptions(v, &a)
	})
}
