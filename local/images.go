package local

import (
	"path/filepath"

	"hasp/sandbox"
)

// knownImages are the names that the sandbox knows: the demo's own programs, the
// curl images of the lab and of habit, and hasp/local, which runs the command a
// container gives, from PATH. A file of the user's adds to them.
func (d *daemon) knownImages() (sandbox.Images, error) {
	table := sandbox.Images{
		"hasp/gateway":     {Gateway: true},
		"hasp/local":       {},
		"appropriate/curl": {Program: []string{"curl"}},
		"curlimages/curl":  {Program: []string{"curl"}},
	}
	for _, name := range []string{"app-ui", "boards", "boards-mongodb", "userprofile", "context-scraper"} {
		table["hasp-demo/"+name] = sandbox.Image{Program: []string{filepath.Join(d.o.Bin, name)}}
	}
	if d.o.Images == "" {
		return table, nil
	}
	more, err := sandbox.LoadImages(d.o.Images)
	return table.With(more), err
}
