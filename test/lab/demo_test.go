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

// walk is what the demo must print, in this order.
var walk = []string{
	`The mesh and the shared-boards app are up after \d+\.\d s\.`,
	`\$ oc run curl-boards-1 -i --restart=Never --image=appropriate/curl --timeout=10s -- boards:8080/shareditems\n`,
	`\n  {\n    "_id": "[0-9a-f]{24}",\n    "owner": "anonymous",\n    "type": "string",\n    "raw": "something goes here",\n`,
	`"raw": "another item",\n`,
	`100   423  100   423`,
	`\$ sed "s\|microservices-demo\|\$PROJECT_NAME\|" \./istio-configuration/policy-mtls\.yaml \| oc apply -f -\npolicy\.authentication\.istio\.io/default created\n`,
	`\$ oc delete dr --all\n(destinationrule\.networking\.istio\.io .* deleted.*\n)+`,
	`\$ sed .* \./istio-configuration/destinationrule-mtls\.yaml \| oc apply -f -\ndestinationrule\.networking\.istio\.io/destinationrule-mtls-istio-mutual created\n`,
	`\$ curl .*/shared\b.*\n`,
	`something goes here`,
	`\$ hasp authn tls-check .*\n`,
	`HOST:PORT +STATUS +SERVER +CLIENT +AUTHN POLICY +DESTINATION RULE\n`,
	`boards\.microservices-demo\.svc\.cluster\.local:8080 +OK +STRICT +ISTIO_MUTUAL +microservices-demo/default +microservices-demo/destinationrule-mtls-istio-mutual\n`,
	`\$ oc run curl-boards-2 .*\n`,
	`curl: \(56\) Recv failure: Connection reset by peer\n`,
	`pod microservices-demo/curl-boards-2 terminated \(Error\)\n`,
	`\$ oc delete policy/default\n`,
	`\$ oc run curl-boards-3 .*\n`,
	`100   423  100   423`,
	`The lab went as its document says\.\n`,
}

// TestDemo: the lab's walk, from the command that everybody types first, leaves
// nothing behind.
func TestDemo(t *testing.T) {
	meshtest.Need(t, "sh", "sed", "grep", "curl")
	meshtest.EachUser(t, func(t *testing.T, u meshtest.User) {
		m := meshtest.New(t, u)
		before := m.Host(t)
		r := m.Hasp(t, "demo", "--exit").Must(t)
		if err := inOrder(r.Stdout, walk); err != nil {
			t.Errorf("%v in\n%s", err, r.Stdout)
		}
		_, refused, _ := strings.Cut(r.Stdout, "oc run curl-boards-2")
		refused, _, _ = strings.Cut(refused, "\n$ ")
		if strings.Contains(refused, "goes here") {
			t.Errorf("the rogue that was to be refused read something:\n%s", refused)
		}
		if after := m.Host(t); after != before {
			t.Errorf("the machine was\n%+v\nand is now\n%+v", before, after)
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
	if after := m.Host(t); after != before {
		t.Errorf("the machine was\n%+v\nand is now\n%+v", before, after)
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

// inOrder looks for each expression after the one before it.
func inOrder(text string, list []string) error {
	for _, re := range list {
		at := regexp.MustCompile(re).FindStringIndex(text)
		if at == nil {
			return fmt.Errorf("no %q, or not in its place,", re)
		}
		text = text[at[1]:]
	}
	return nil
}
