package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"

	"github.com/containernetworking/cni/pkg/version"
)

// list is a network configuration list (CNI specification, section 1) of
// somebody else's making: what is not known here stays as it is.
type list map[string]any

func parseList(b []byte) (list, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // somebody's numbers come out as they went in
	var l list
	if err := d.Decode(&l); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	plugins, ok := l["plugins"].([]any)
	if !ok || len(plugins) == 0 {
		return nil, errors.New("plugins: a list with a plugin is needed")
	}
	for i, p := range plugins {
		if m, ok := p.(map[string]any); !ok || m["type"] == nil {
			return nil, fmt.Errorf("plugins[%d]: a plugin with a type is needed", i)
		}
	}
	return l, nil
}

// join is the list with the plugin at its end, or its entry brought up to date
// where it is. The result is b itself when nothing changes.
func join(b []byte, s Settings) ([]byte, error) {
	l, err := parseList(b)
	if err != nil {
		return nil, err
	}
	v, _ := l["cniVersion"].(string)
	if ok, err := version.GreaterThanOrEqualTo(v, Versions.SupportedVersions()[0]); err != nil || !ok {
		return nil, fmt.Errorf("cniVersion %q hands no results from plugin to plugin; %s is the first that does", v, Versions.SupportedVersions()[0])
	}
	ours, err := entry(s)
	if err != nil {
		return nil, err
	}
	var joined []any
	there := false
	for _, p := range l["plugins"].([]any) {
		switch {
		case !isOurs(p):
			joined = append(joined, p)
		case !there:
			there = true
			joined = append(joined, ours)
		}
	}
	if !there {
		joined = append(joined, ours)
	}
	return l.with(b, joined)
}

// leave is the list without the plugin, b itself when it was not there.
func leave(b []byte) ([]byte, error) {
	l, err := parseList(b)
	if err != nil {
		return nil, err
	}
	var others []any
	for _, p := range l["plugins"].([]any) {
		if !isOurs(p) {
			others = append(others, p)
		}
	}
	return l.with(b, others)
}

func isOurs(plugin any) bool { return plugin.(map[string]any)["type"] == Name }

// with is the list with other plugins, or its own bytes if they are the same.
func (l list) with(own []byte, plugins []any) ([]byte, error) {
	if reflect.DeepEqual(l["plugins"], plugins) {
		return own, nil
	}
	l["plugins"] = plugins
	return encode(l)
}

// entry is the plugin in a list.
func entry(s Settings) (map[string]any, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	e := map[string]any{}
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, err
	}
	e["type"] = Name
	return e, nil
}

// standalone is a network of the plugin alone, for Multus.
func standalone(s Settings) ([]byte, error) {
	e, err := entry(s)
	if err != nil {
		return nil, err
	}
	e["cniVersion"], e["name"] = "0.3.1", Name
	return encode(e)
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return b.Bytes(), err
}
