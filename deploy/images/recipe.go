package main

import (
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// recipe is what one image is made of.
type recipe struct {
	// name as --only has it. One without a slash is hasp's own: its image is
	// HUB/name:TAG. One with a slash is a name of docker.io, tagged latest.
	name        string
	title       string // org.opencontainers.image.title
	description string // org.opencontainers.image.description
	// program of the directory of programs, /usr/local/bin/program in the image,
	// which is the entrypoint.
	program string
	// args follow the program in the entrypoint.
	args []string
	// debian are programs of this machine that come with what they load:
	// absolute paths.
	debian []string
	// roots adds the authorities of the public web.
	roots bool
	// data makes /data, writable for the user and for group 0, as whom
	// OpenShift runs containers.
	data bool
	user user
}

// user is whom a container runs as unless its pod says otherwise.
type user struct {
	name     string
	uid, gid int
}

var (
	root = user{"root", 0, 0}
	// meshUser owns the connections that capture leaves alone, as in Istio.
	meshUser = user{"hasp", 1337, 1337}
	// appUser must be another: what 1337 dials goes past the sidecar.
	appUser = user{"app", 65532, 65532}
)

var recipes = []recipe{
	{name: "hasp", title: "hasp", description: "control plane, CA and command line of the hasp service mesh", program: "hasp", user: meshUser},
	{name: "hasp-proxy", title: "hasp-proxy", description: "sidecar and ingress gateway of the hasp service mesh", program: "hasp-proxy", user: meshUser},
	{name: "hasp-cni", title: "hasp-cni", description: "CNI plugin and node agent of the hasp service mesh", program: "hasp-cni", user: root}, // its files are the node's
	demo("app-ui", "the web pages"),
	demo("boards", "the items and boards, as JSON"),
	demo("boards-mongodb", "the boards' database"),
	demo("userprofile", "the users' profiles"),
	demo("context-scraper", "a search on the internet"),
	{
		name: "appropriate/curl", title: "curl", description: "Debian's curl, which waits until somebody is attached to standard input",
		program: "images/after-stdin", args: []string{"/usr/bin/curl"}, debian: []string{"/usr/bin/curl"}, user: appUser,
	},
}

// demo is a service of the shared-boards app. Two of them keep files below
// DATA_DIR, /data in their manifests; one asks the public web.
func demo(service, what string) recipe {
	return recipe{
		name: "hasp-demo/" + service, title: service, description: "shared-boards demo: " + what,
		program: service, user: appUser,
		data:  service == "boards-mongodb" || service == "userprofile",
		roots: service == "context-scraper",
	}
}

// own reports whether the image is the mesh's.
func (r recipe) own() bool { return !strings.Contains(r.name, "/") }

// ref is the image's full name.
func (r recipe) ref(c config) (name.Tag, error) {
	full := "docker.io/" + r.name + ":latest"
	if r.own() {
		full = c.hub + "/" + r.name + ":" + c.tag
	}
	tag, err := name.NewTag(full, name.StrictValidation)
	if err != nil {
		return name.Tag{}, fmt.Errorf("its name: %w (see --hub and --tag)", err)
	}
	return tag, nil
}

// file is the name of the image's files, without what follows a dot.
func (r recipe) file() string { return strings.ReplaceAll(r.name, "/", "-") }

// sbom is where the image has its own bill of materials.
func (r recipe) sbom() string { return "usr/share/sbom/" + r.title + ".spdx.json" }
