package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"hasp/mesh"
	"hasp/policy"
	"hasp/world"
)

func newExplainCmd(load worldLoader, namespace string) *cobra.Command {
	q := question{load: load}
	var query ExplainQuery
	cmd := &cobra.Command{
		Use:   "explain --from WORKLOAD[.NAMESPACE] --to HOST[:PORT]",
		Short: "Say what one call meets, and which objects decided and lost",
		Long: `Say what a call of a workload to a service meets: what the server takes, what
the client speaks, whose certificates they show, whether the two get along, and
for each which object decided, at which level, and which objects lost and why;
and whether the server lets this caller in.

WORKLOAD is a pod, a Deployment or an app label. HOST is a service as the
workload would call it: boards, boards.shop, or the full name; PORT its number
or name.

With -o json the answer has the keys from, to, server, client, verdict (OK or
CONFLICT) and why. server and client hold mode (absent when nothing sets it),
object ("KIND NAMESPACE/NAME" of what decided; of the rule that is used when it
says no tls), level, lost, and the identities. client.auto is true when auto
mutual TLS speaks for a client that no rule tells. access says whether the
AuthorizationPolicies let the caller in: allowed, object and why.

With -f the answer comes from manifests alone, with no mesh running: the
workloads and Services as Kubernetes YAML, the policies with their
creationTimestamps, and the mesh's settings in the ConfigMap istio of the root
namespace. That makes a unit test of a policy.

The exit status is 0 for either verdict; it is 1 when the question could not be
answered.`,
		Example: `  hasp explain --from app-ui --to boards:8080
  hasp explain --from teller.bank --to boards.shop.svc.cluster.local:8080 -o json
  hasp explain -f deploy/ -f policy.yaml --from app-ui.shop --to boards:http`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if query.From == "" || query.To == "" {
				return usageError{errNoCall}
			}
			w, err := q.world(cmd)
			if err != nil {
				return err
			}
			query.Namespace = q.namespace
			e, err := Explain(w, query)
			if err != nil {
				return err
			}
			if q.output == "json" {
				return writeJSON(cmd.OutOrStdout(), e, "")
			}
			return e.write(cmd.OutOrStdout())
		},
	}
	q.flags(cmd, namespace)
	cmd.Flags().StringVar(&query.From, "from", "", "`WORKLOAD[.NAMESPACE]` that calls")
	cmd.Flags().StringVar(&query.To, "to", "", "`HOST[:PORT]` that it calls")
	offerFound(cmd, "from", fromWorld(q.load, &q, workloadNames(false)))
	offerFound(cmd, "to", fromWorld(q.load, &q, hostPorts))
	cmd.Flags().StringVar(&query.Subset, "subset", "", "`SUBSET` of the service, as a DestinationRule names it")
	return cmd
}

// ExplainQuery is the call to explain.
type ExplainQuery struct {
	From      string
	To        string // HOST:PORT
	Subset    string
	Namespace string // of names that do not say theirs
}

// Explanation is the answer of explain; its JSON is a promise to scripts.
type Explanation struct {
	From    string     `json:"from"` // NAME.NAMESPACE
	To      string     `json:"to"`   // HOST:PORT
	Subset  string     `json:"subset,omitempty"`
	Verdict string     `json:"verdict"` // OK or CONFLICT
	Why     string     `json:"why"`
	Server  serverSide `json:"server"`
	Client  clientSide `json:"client"`
	Access  access     `json:"access"`
}

// access is whether the caller is let in (AuthorizationPolicy), of an
// Explanation.
type access struct {
	Allowed bool   `json:"allowed"`
	Object  string `json:"object,omitempty"` // that decided; absent when none applies
	Why     string `json:"why,omitempty"`
}

// serverSide is the server's side of an Explanation.
type serverSide struct {
	Decision
	// Identities its workloads show.
	Identities []string `json:"identities,omitempty"`
}

// clientSide is the client's side of an Explanation.
type clientSide struct {
	Decision
	Auto     bool   `json:"auto,omitempty"`
	Identity string `json:"identity,omitempty"` // it shows; none without a sidecar
	SNI      string `json:"sni,omitempty"`
	// SubjectAltNames of which the server must show one.
	SubjectAltNames []string `json:"subjectAltNames,omitempty"`
}

// Decision is what was decided, by what, over what.
type Decision struct {
	Mode   string `json:"mode,omitempty"`   // absent when nothing sets it
	Object string `json:"object,omitempty"` // KIND NAMESPACE/NAME
	Level  string `json:"level,omitempty"`
	Lost   []Lost `json:"lost,omitempty"`
}

// Lost is an object that matched and did not decide.
type Lost struct {
	Object string `json:"object"`
	Level  string `json:"level,omitempty"`
	Why    string `json:"why"`
}

var errNoCall = errors.New("say who calls and what it calls: --from WORKLOAD --to HOST:PORT")

// Explain answers from a World.
func Explain(w *world.World, q ExplainQuery) (*Explanation, error) {
	if q.From == "" || q.To == "" {
		return nil, errNoCall
	}
	from, err := findWorkload(w, q.From, q.Namespace)
	if err != nil {
		return nil, err
	}
	host, portName := q.To, ""
	if i := strings.LastIndexByte(q.To, ':'); i >= 0 {
		host, portName = q.To[:i], q.To[i+1:]
	}
	svc, err := findService(w, host, from.Namespace)
	if err != nil {
		return nil, err
	}
	port, err := findPort(svc, portName)
	if err != nil {
		return nil, err
	}
	if err := knownSubset(w, from, svc, q.Subset); err != nil {
		return nil, err
	}
	return newExplanation(w, from, svc, port.Number, q.Subset), nil
}

func knownSubset(w *world.World, from *mesh.Workload, svc *mesh.Service, subset string) error {
	var names []string
	for _, s := range policy.Subsets(w, from, from.Namespace, svc) {
		if s.Name == subset {
			return nil
		}
		names = append(names, s.Name)
	}
	if subset == "" {
		return nil
	}
	return fmt.Errorf("%s sees no subset %q of %s; there is %s", policy.WorkloadName(from), subset, svc.Hostname, listed(names))
}

func newExplanation(w *world.World, from *mesh.Workload, svc *mesh.Service, port uint16, subset string) *Explanation {
	v := policy.Check(w, from, svc, port, subset)
	e := &Explanation{
		From:    policy.WorkloadName(from),
		To:      fmt.Sprintf("%s:%d", svc.Hostname, port),
		Subset:  subset,
		Verdict: v.Status,
		Why:     v.Why,
		Server: serverSide{
			Decision:   decision(string(v.Server.Mode), v.Server.Origin, v.Server.Lost),
			Identities: policy.Identities(w, svc, port),
		},
		Client: clientSide{
			Decision: decision(string(v.Client.Mode), v.Client.Origin, v.Client.Lost),
			Auto:     v.Client.Auto,
			SNI:      v.Client.TLS.SNI, SubjectAltNames: v.Client.TLS.SubjectAltNames,
		},
	}
	a := policy.Access(w, from, svc, port, subset)
	e.Access = access{a.Allowed, objectName(a.Origin), a.Why}
	if v.Status == policy.Auto {
		e.Verdict = policy.OK // AUTO is a word of tls-check's column
	}
	if from.Role != mesh.RoleNone {
		e.Client.Identity = from.Identity(w.Mesh.TrustDomain)
	}
	return e
}

func decision(mode string, origin mesh.Origin, lost []policy.Loser) Decision {
	d := Decision{Mode: mode, Object: objectName(origin), Level: origin.Level}
	for _, l := range lost {
		d.Lost = append(d.Lost, Lost{objectName(l.Origin), l.Origin.Level, l.Why})
	}
	return d
}

func objectName(o mesh.Origin) string {
	if o.Name == "" {
		return ""
	}
	return o.Kind + " " + o.Ref()
}

// write is the explanation for a person.
func (e *Explanation) write(out io.Writer) error {
	subset := ""
	if e.Subset != "" {
		subset = " (subset " + e.Subset + ")"
	}
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "%s: %s to %s%s\n%s.\n", e.Verdict, e.From, e.To, subset, e.Why)

	serverMode := e.Server.Mode
	if serverMode == "" {
		serverMode = "not set"
	}
	fmt.Fprintf(t, "\nserver takes\t%s\n", serverMode)
	e.Server.Decision.write(t)
	writeAll(t, "shows", e.Server.Identities)

	clientMode := e.Client.Mode
	switch {
	case e.Client.Auto:
		clientMode = "not set, auto mTLS decides"
	case clientMode == "":
		clientMode = "not set"
	}
	fmt.Fprintf(t, "\nclient speaks\t%s\n", clientMode)
	e.Client.Decision.write(t)
	if e.Client.Identity != "" {
		writeAll(t, "shows", []string{e.Client.Identity})
	}
	writeAll(t, "expects", e.Client.SubjectAltNames)
	if e.Client.SNI != "" {
		writeAll(t, "asks for", []string{e.Client.SNI})
	}
	switch {
	case !e.Access.Allowed:
		fmt.Fprintf(t, "\ncaller is\trefused\n  because\t%s\n", e.Access.Why)
	case e.Access.Why != "":
		fmt.Fprintf(t, "\ncaller is\tlet in\n  because\t%s\n", e.Access.Why)
	}
	return t.Flush()
}

func (d Decision) write(out io.Writer) {
	if d.Object != "" {
		fmt.Fprintf(out, "  by\t%s (%s)\n", d.Object, d.Level)
	}
	for _, l := range d.Lost {
		fmt.Fprintf(out, "  not by\t%s (%s): %s\n", l.Object, l.Level, l.Why)
	}
}

func writeAll(out io.Writer, label string, values []string) {
	for _, v := range values {
		fmt.Fprintf(out, "  %s\t%s\n", label, v)
	}
}
