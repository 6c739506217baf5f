package api

import (
	"strconv"
	"strings"

	yaml "go.yaml.in/yaml/v3"
)

// path is where something stands in an object: keys and list positions.
type path []string

// parsePath reads what field.Path prints: a.b[0].c[key.with.dots].
func parsePath(field string) path {
	var p path
	for field != "" {
		switch {
		case field[0] == '.':
			field = field[1:]
		case field[0] == '[':
			end := strings.IndexByte(field, ']')
			if end < 0 {
				return p
			}
			p = append(p, field[1:end])
			field = field[end+1:]
		default:
			end := strings.IndexAny(field, ".[")
			if end < 0 {
				end = len(field)
			}
			p = append(p, field[:end])
			field = field[end:]
		}
	}
	return p
}

// lineOf is the line of what stands at the path below a node, or of the deepest
// part of the path that is written down.
func lineOf(n *yaml.Node, p path) int {
	line := n.Line
	for _, step := range p {
		key, value := child(n, step)
		if value == nil {
			break
		}
		line, n = key.Line, value
	}
	return line
}

// child finds one step of a path: the node that names it and the node it holds.
func child(n *yaml.Node, step string) (key, value *yaml.Node) {
	switch n.Kind {
	case yaml.DocumentNode:
		if len(n.Content) > 0 {
			return child(n.Content[0], step)
		}
	case yaml.AliasNode:
		return child(n.Alias, step)
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i], n.Content[i]
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == step {
				return n.Content[i], n.Content[i+1]
			}
		}
	}
	return nil, nil
}
