package ui

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Limits of what a visitor may send. The form is bounded first, then its parts.
const (
	maxForm        = 64 << 10 // bytes
	maxPaste       = 32 << 10 // bytes
	maxBoardName   = 80       // bytes
	maxDescription = 400      // bytes
	maxTerm        = 200      // bytes
)

// readForm reads a form that was posted. The error is in words for the visitor.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, fmt.Errorf("That is more than %d KiB, which is too much for one go.", maxForm>>10)
		}
		return nil, errors.New("The form did not arrive as it should.")
	}
	return r.PostForm, nil
}

// field is one field of a form, with the line breaks of a text and bounded. The
// error is in words for the visitor.
func field(form url.Values, name, what string, max int) (string, error) {
	// Browsers send CR LF, whatever was typed.
	v := strings.ToValidUTF8(strings.ReplaceAll(form.Get(name), "\r\n", "\n"), "\uFFFD")
	if len(v) > max {
		return v, fmt.Errorf("%s is too long: %d bytes, and %d are allowed.", what, len(v), max)
	}
	return v, nil
}
