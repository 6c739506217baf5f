package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	yaml "go.yaml.in/yaml/v3"
	kjson "k8s.io/apimachinery/pkg/util/json"
	sigsyaml "sigs.k8s.io/yaml"
)

// chunk is the text of one document of a stream, not yet parsed.
type chunk struct {
	text []byte
	base int // lines before it
}

// document is one parsed document. The tree is what kubectl would send (YAML 1.1
// scalars); the node is the same text with its line numbers.
type document struct {
	tree map[string]any
	node *yaml.Node
	base int // lines before the text the node was parsed from
}

// split cuts a stream at its "---" lines, as kubectl does.
func split(data []byte) []chunk {
	var out []chunk
	keep := func(c chunk) {
		if len(bytes.TrimSpace(c.text)) > 0 {
			out = append(out, c)
		}
	}
	start, base, line := 0, 0, 0
	for at := 0; at < len(data); {
		end := bytes.IndexByte(data[at:], '\n') + at + 1
		if end == at {
			end = len(data)
		}
		line++
		if text := bytes.TrimRight(data[at:end], " \t\r\n"); bytes.Equal(text, []byte("---")) || bytes.HasPrefix(text, []byte("--- ")) {
			keep(chunk{data[start:at], base})
			// What follows the dashes on their line belongs to the document.
			start, base = at+len("---"), line-1
		}
		at = end
	}
	keep(chunk{data[start:], base})
	return out
}

// splitJSON cuts a chunk of several JSON values into one for each, which YAML
// would not take. Anything else is returned whole.
func splitJSON(c chunk) []chunk {
	trimmed := bytes.TrimLeft(c.text, " \t\r\n")
	if len(trimmed) == 0 || trimmed[0] != '{' {
		return []chunk{c}
	}
	var out []chunk
	line := 0 // counted on from value to value: a stream may hold millions
	dec := json.NewDecoder(bytes.NewReader(c.text))
	for {
		before := dec.InputOffset()
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			return []chunk{c} // a YAML flow mapping, or an error YAML will name
		}
		text := c.text[before:dec.InputOffset()]
		out = append(out, chunk{text, c.base + line})
		line += bytes.Count(text, []byte("\n"))
	}
}

// lineError is something wrong at a line of a document.
type lineError struct {
	line int
	text string
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.text) }

// yamlLine finds where the YAML libraries say something is wrong.
var yamlLine = regexp.MustCompile(`^(?:yaml: |error converting YAML to JSON: )*(?:unmarshal errors:\s*)?line (\d+): `)

// parse reads one document; nil without an error when there is nothing in it.
func parse(c chunk) (*document, *lineError) {
	fail := func(err error) (*document, *lineError) {
		text, line := err.Error(), 1
		if m := yamlLine.FindStringSubmatch(text); m != nil {
			line, _ = strconv.Atoi(m[1])
			text = text[len(m[0]):]
		}
		return nil, &lineError{c.base + line, "not valid YAML: " + strings.TrimPrefix(text, "yaml: ")}
	}
	var root yaml.Node
	if err := yaml.Unmarshal(c.text, &root); err != nil {
		// The library that kubectl has names the line that is meant, not one before.
		if _, better := sigsyaml.YAMLToJSON(c.text); better != nil {
			err = better
		}
		return fail(err)
	}
	if len(root.Content) == 0 {
		return nil, nil
	}
	node := root.Content[0]
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return nil, nil
	}
	if node.Kind != yaml.MappingNode {
		return nil, &lineError{c.base + node.Line, "not an object; write FIELD: VALUE lines"}
	}
	if line, key := repeatedKey(node); key != "" {
		return nil, &lineError{c.base + line, fmt.Sprintf("%q is written twice here; keep one", key)}
	}
	d := &document{node: node, base: c.base}
	b, err := sigsyaml.YAMLToJSON(c.text)
	if err != nil {
		return fail(err)
	}
	if err := kjson.Unmarshal(b, &d.tree); err != nil {
		return fail(err)
	}
	return d, nil
}

// repeatedKey finds a key written twice in one mapping. YAML forbids it, the
// converter to JSON keeps the last one without a word.
func repeatedKey(n *yaml.Node) (line int, key string) {
	if n.Kind == yaml.MappingNode {
		seen := make(map[string]bool, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			if k.Kind == yaml.ScalarNode && seen[k.Value] {
				return k.Line, k.Value
			}
			seen[k.Value] = true
		}
	}
	for _, c := range n.Content {
		if line, key = repeatedKey(c); key != "" {
			return line, key
		}
	}
	return 0, ""
}
