package service

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName bounds a name in a path, in bytes.
const maxName = 128

// NameFault says why a user's name or an id from a path can be none, in words
// that follow "the id in the path", or returns "".
func NameFault(name string) string {
	switch {
	case len(name) > maxName:
		return fmt.Sprintf("is longer than %d bytes", maxName)
	case !utf8.ValidString(name):
		return "is not UTF-8"
	case strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) }):
		return "has a character that does not print"
	}
	return ""
}
