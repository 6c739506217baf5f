package ui

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

type searchBody struct {
	Term   string
	Boards []board
	Shared []item
	Own    []item
}

// Found is how many things there are.
func (b searchBody) Found() int { return len(b.Boards) + len(b.Shared) + len(b.Own) }

// search looks for a term in the shared items, and in the user's boards and
// items. The original had a page for it and no service behind the page.
func (s *site) search(w http.ResponseWriter, r *http.Request) {
	who := s.visitor()
	p := page{Title: "Search", User: who}
	form, err := readForm(w, r)
	var body searchBody
	if err == nil {
		body.Term, err = field(form, "term", "The search term", maxTerm)
	}
	if err != nil {
		p.Alert, p.Body = &alert{"Nothing was searched", err.Error()}, searchBody{}
		s.render(w, http.StatusBadRequest, "search", p)
		return
	}
	body.Term = strings.TrimSpace(body.Term)
	if body.Term == "" {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	status := http.StatusOK
	if err := s.find(r, who, &body); err != nil {
		status, p.Alert = http.StatusServiceUnavailable, trouble("Not everything could be searched", err)
	}
	p.Body = body
	s.render(w, status, "search", p)
}

// find fills in what matches the term, as far as the service answers.
func (s *site) find(r *http.Request, who user, b *searchBody) error {
	boards, err := s.userBoards(r, who)
	if err != nil {
		return err
	}
	has := matcher(b.Term)
	b.Boards = slices.DeleteFunc(boards, func(x board) bool { return !has(x.Name) && !has(x.Description) })
	lacks := func(it item) bool { return !has(it.Raw) && !has(it.Name) }
	shared, err := s.sharedItems(r, who)
	if err != nil {
		return err
	}
	b.Shared = slices.DeleteFunc(shared, lacks)
	own, err := s.userItems(r, who)
	if err != nil {
		return err
	}
	b.Own = slices.DeleteFunc(own, lacks)
	return nil
}

// matcher finds a term in a text, whatever the case of its letters.
func matcher(term string) func(string) bool {
	term = strings.ToLower(term)
	return func(text string) bool { return strings.Contains(strings.ToLower(text), term) }
}

type infoBody struct {
	Message, Details string
	About            bool
}

// info shows a message that is in the address, or else what this app is. It
// shows no more than that: the words of an address can be anybody's.
func (s *site) info(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	body := infoBody{
		Message: short(q, "infoMessage"),
		Details: strings.TrimSpace(short(q, "infoAlertText") + " " + short(q, "infoDetails")),
	}
	body.About = body.Message == "" && body.Details == ""
	s.renderInfo(w, http.StatusOK, "Info", body)
}

// short is a parameter of an address, cut to what a page shows of it.
func short(q url.Values, name string) string {
	v := strings.ToValidUTF8(q.Get(name), "\uFFFD")
	if len(v) > maxDescription {
		v = strings.ToValidUTF8(v[:maxDescription], "") + "…"
	}
	return v
}

func (s *site) login(w http.ResponseWriter, r *http.Request) {
	if s.visitor().SignedIn {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	s.renderInfo(w, http.StatusOK, "Log in", infoBody{
		Message: "There is nowhere to log in",
		Details: "No single sign-on is connected to this app. Set FAKE_USER=true to be signed in as the demo’s user.",
	})
}

func (s *site) logout(w http.ResponseWriter, r *http.Request) {
	if !s.visitor().SignedIn {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	s.renderInfo(w, http.StatusOK, "Log out", infoBody{
		Message: "Can’t log out the fake user",
		Details: "Everybody is signed in as the demo’s user as long as FAKE_USER is set.",
	})
}

func (s *site) notFound(w http.ResponseWriter, _ *http.Request) {
	s.missing(w, "Page not found", "There is nothing at this address.")
}

func (s *site) missing(w http.ResponseWriter, message, details string) {
	s.renderInfo(w, http.StatusNotFound, message, infoBody{Message: message, Details: details})
}

func (s *site) renderInfo(w http.ResponseWriter, status int, title string, body infoBody) {
	s.render(w, status, "info", page{Title: title, User: s.visitor(), Body: body})
}
