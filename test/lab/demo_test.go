package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"hasp/test/meshtest"
)

// step of the walk: a command, and what must come of it, in any order, since a
// program's two outputs race each other. (423 is the size of the items, in
// curl's table, which may come in pieces.)
type step struct {
	command string
	want    []string
}

const item = `\n  \{\n    "_id": "[0-9a-f]{24}",\n    "owner": "anonymous",\n    "type": "string",\n    "raw": "something goes here",\n`

// walk is what the demo must do, in this order.
var walk = []step{
	{`curl .* 'pastedata=something goes here' http://127\.0\.0\.1:\d+/shared/paste`, []string{`^303\n`}},
	{`curl .* 'pastedata=another item' http://127\.0\.0\.1:\d+/shared/paste`, []string{`^303\n`}},
	{`oc run curl-boards-1 -i --restart=Never --image=appropriate/curl --timeout=10s -- boards:8080/shareditems`,
		[]string{item, `"raw": "another item"`, `\b423\b`}},
	{`sed "s\|microservices-demo\|\$PROJECT_NAME\|" \./istio-configuration/policy-mtls\.yaml \| oc apply -f -`,
		[]string{`^policy\.authentication\.istio\.io/default created\n`}},
	{`oc delete dr --all`, []string{`^destinationrule\.networking\.istio\.io "app-ui" deleted`}},
	{`sed .* \./istio-configuration/destinationrule-mtls\.yaml \| oc apply -f -`,
		[]string{`^destinationrule\.networking\.istio\.io/destinationrule-mtls-istio-mutual created\n`}},
	{`curl .*/shared\b.*`, []string{`something goes here`, `another item`}},
	{`hasp authn tls-check .*`, []string{
		`^HOST:PORT +STATUS +SERVER +CLIENT +AUTHN POLICY +DESTINATION RULE\n`,
		`\nboards\.microservices-demo\.svc\.cluster\.local:8080 +OK +STRICT +ISTIO_MUTUAL +microservices-demo/default +microservices-demo/destinationrule-mtls-istio-mutual\n`}},
	{`oc run curl-boards-2 .*`, []string{`curl: \(56\) Recv failure: Connection reset by peer\n`, `pod microservices-demo/curl-boards-2 terminated \(Error\)\n`}},
	{`oc delete policy/default`, nil},
	{`oc delete dr --all`, nil},
	{`oc run curl-boards-3 .*`, []string{item, `\b423\b`}},
	{`curl .*/shared\b.*`, []string{`something goes here`, `\nThe lab went as its document says\.\n`}},
}

// TestDemo: the lab's walk, from the command that everybody types first, leaves
// nothing behind.
func TestDemo(t *testing.T) {
	meshtest.Need(t, "sh", "sed", "grep", "curl")
	meshtest.EachUser(t, func(t *testing.T, u meshtest.User) {
		m := meshtest.New(t, u)
		before := m.Host(t)
		r := m.Hasp(t, "demo", "--exit").Must(t)
		if err := inOrder(r.Stdout); err != nil {
			t.Errorf("%v in\n%s", err, r.Stdout)
		}
		_, refused, _ := strings.Cut(r.Stdout, "oc run curl-boards-2")
		refused, _, _ = strings.Cut(refused, "\n$ ")
		if strings.Contains(refused, "goes here") {
			t.Errorf("the rogue that was to be refused read something:\n%s", refused)
		}
		if left := m.Host(t).New(before); len(left) > 0 {
			t.Errorf("the mesh left behind:\n%s", strings.Join(left, "\n"))
		}
	})
}

// TestDemoFails: where an outcome is not the lab's, the demo says which step it
// was. Here the policy is one that lets everybody in.
func TestDemoFails(t *testing.T) {
	meshtest.Need(t, "sh", "sed", "grep", "curl")
	m := meshtest.New(t, meshtest.Ordinary())
	app := m.File("app")
	for _, dir := range []string{"app", "istio-configuration"} {
		if err := os.CopyFS(filepath.Join(app, dir), os.DirFS(filepath.Join(m.Demo(), dir))); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"mesh.yaml", "gateway.yaml"} {
		edit(t, filepath.Join(m.Demo(), file), filepath.Join(app, file), "", "")
	}
	policy := filepath.Join(app, "istio-configuration", "policy-mtls.yaml")
	edit(t, policy, policy, "STRICT", "PERMISSIVE")
	before := m.Host(t)
	r := m.Hasp(t, "demo", "--exit", "--app", app)
	if r.Exit != 1 {
		t.Errorf("exit status %d, want 1\n%s", r.Exit, r.Output())
	}
	want := regexp.MustCompile(`hasp: the step "hasp authn tls-check [^"]*" ended otherwise than the lab says: no output like `)
	if !want.MatchString(r.Stderr) {
		t.Errorf("the reason given is not the step:\n%s", r.Stderr)
	}
	if strings.Contains(r.Stdout, "curl-boards-2") {
		t.Errorf("the walk went on:\n%s", r.Stdout)
	}
	if left := m.Host(t).New(before); len(left) > 0 {
		t.Errorf("the mesh left behind:\n%s", strings.Join(left, "\n"))
	}
}

// edit copies a file with something replaced, which must be there.
func edit(t *testing.T, from, to, old, new string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil && !strings.Contains(string(b), old) {
		err = fmt.Errorf("%s has no %q", from, old)
	}
	if err == nil {
		err = os.WriteFile(to, []byte(strings.ReplaceAll(string(b), old, new)), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// inOrder looks for each step after the one before it.
func inOrder(transcript string) error {
	ran := strings.Split(transcript, "\n$ ")[1:]
	for _, s := range walk {
		command := regexp.MustCompile(`^` + s.command + `$`)
		var output string
		for found := false; !found; ran = ran[1:] {
			if len(ran) == 0 {
				return fmt.Errorf("no %q, or not in its place,", s.command)
			}
			var line string
			line, output, _ = strings.Cut(ran[0]+"\n", "\n")
			found = command.MatchString(line)
		}
		for _, re := range s.want {
			if !regexp.MustCompile(re).MatchString(output) {
				return fmt.Errorf("no %q after %q", re, s.command)
			}
		}
	}
	return nil
}
