package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"hasp/truth"
)

// TestForetellUnmeasured: a dry run that nothing can be told of is not silent.
func TestForetellUnmeasured(t *testing.T) {
	c := &Control{foretelling: make(chan struct{}, 1)}
	c.foretelling <- struct{}{} // another is asked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	want := []string{"what-if: not measured: others are asked first; ask with hasp what-if -f FILE"}
	if got := c.Foretell(ctx, &unstructured.Unstructured{}, false); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestForetold(t *testing.T) {
	legacy := truth.Party{Workload: "shop/legacy-7f-x", Namespace: "shop", Owner: "legacy"}
	again := legacy
	again.Workload = "shop/legacy-7f-y"
	boards := truth.Party{Workload: "shop/boards-1", Namespace: "shop", Owner: "boards"}
	cut := func(from truth.Party) truth.Effect {
		return truth.Effect{What: truth.Cut, Source: from, Destination: boards, Service: "boards.shop.svc.cluster.local", Port: 8080, Why: "it has no sidecar"}
	}
	var many []truth.Effect
	for i := range 12 {
		many = append(many, cut(truth.Party{Address: fmt.Sprint("192.0.2.", i)}))
	}
	for _, c := range []struct {
		name string
		a    truth.Answer
		want []string
	}{
		{"nobody hurt", truth.Answer{Effects: []truth.Effect{{What: truth.Upgraded, Source: legacy}, {What: truth.Freed, Source: legacy}}, Warnings: []string{truth.NothingChanges}}, nil},
		{"two pods of one client", truth.Answer{Effects: []truth.Effect{cut(legacy), cut(again)}}, []string{"what-if: client shop/legacy would be cut from boards.shop:8080: it has no sidecar"}},
		{"weakened", truth.Answer{Effects: []truth.Effect{{What: truth.Weakened, Source: legacy, Destination: boards, Port: 80, Why: "DISABLE"}}},
			[]string{"what-if: client shop/legacy would speak plaintext to shop/boards:80: DISABLE"}},
		{"what facts cannot tell", truth.Answer{Warnings: []string{"never seen"}}, []string{"what-if: never seen"}},
		{"control characters", truth.Answer{Warnings: []string{"a\r\nb\xff"}}, []string{"what-if: a  b?"}},
		{"many", truth.Answer{Effects: many}, append(slices.Clone(foretold(&truth.Answer{Effects: many[:10]})), "what-if: and 2 more: hasp what-if -f FILE lists them")},
		{"long", truth.Answer{Warnings: []string{strings.Repeat("ü", 300)}}, []string{"what-if: " + strings.Repeat("ü", 238) + "..."}},
	} {
		if d := cmp.Diff(c.want, foretold(&c.a)); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}
