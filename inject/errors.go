package inject

import "strings"

// leaves are the errors that were joined.
func leaves(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var out []error
	for _, e := range joined.Unwrap() {
		out = append(out, leaves(e)...)
	}
	return out
}

// oneLine is an error of several sentences as one.
func oneLine(err error) string {
	var words []string
	for _, e := range leaves(err) {
		words = append(words, e.Error())
	}
	return strings.Join(words, "; ")
}
