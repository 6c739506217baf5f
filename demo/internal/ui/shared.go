package ui

import (
	"errors"
	"net/http"
	"slices"
	"strings"
)

// What a form may lack, in words for the visitor.
var (
	errNoName = errors.New("A board needs a name.")
	errNoText = errors.New("Paste or type a text first.")
)

func (s *site) shared(w http.ResponseWriter, r *http.Request) {
	s.renderShared(w, r, http.StatusOK, nil, "")
}

// renderShared shows the board that everybody shares, and under an alert the
// text as it was sent.
func (s *site) renderShared(w http.ResponseWriter, r *http.Request, status int, a *alert, draft string) {
	who := s.visitor()
	items, err := s.sharedItems(r, who)
	if err != nil && a == nil {
		status, a = http.StatusServiceUnavailable, trouble("The shared board cannot be shown", err)
	}
	slices.Reverse(items) // newest first
	body := boardBody{Board: board{Name: "Shared board"}, Items: items, Draft: draft, Post: "/shared/paste"}
	if len(items) > shownItems {
		body.Items, body.More = items[:shownItems], len(items)-shownItems
	}
	s.render(w, status, "shared", page{Title: "Shared board", Nav: "shared", User: who, Alert: a, Body: body})
}

func (s *site) sharedPaste(w http.ResponseWriter, r *http.Request) {
	text, err := pasteFrom(w, r)
	if err != nil {
		s.renderShared(w, r, http.StatusBadRequest, &alert{"Nothing was added", err.Error()}, text)
		return
	}
	if err := s.addSharedItem(r, s.visitor(), text); err != nil {
		s.renderShared(w, r, http.StatusServiceUnavailable, trouble("Nothing was added", err), text)
		return
	}
	http.Redirect(w, r, "/shared", http.StatusSeeOther)
}

// pasteFrom reads the text that was pasted into a form. The error is in words
// for the visitor.
func pasteFrom(w http.ResponseWriter, r *http.Request) (string, error) {
	form, err := readForm(w, r)
	if err != nil {
		return "", err
	}
	text, err := field(form, "pastedata", "The text", maxPaste)
	if err == nil && strings.TrimSpace(text) == "" {
		err = errNoText
	}
	return text, err
}
