package ui

import (
	"net/http"
	"strings"

	"sharedboards/internal/service"
)

type profileBody struct {
	Known   bool
	Profile profile
	Why     string // why it is not known
}

// Style is the look that the version of userprofile asks for: 1, 2 or 3.
func (b profileBody) Style() string {
	if b.Profile.StyleID == "2" || b.Profile.StyleID == "3" {
		return b.Profile.StyleID
	}
	return "1"
}

func (s *site) ownProfile(w http.ResponseWriter, r *http.Request) {
	who := s.visitor()
	if who.ProfileID == "" {
		s.renderUnknown(w, who, http.StatusOK, nil, "Nobody is signed in, so there is no profile to show.")
		return
	}
	s.renderProfile(w, r, who, who.ProfileID)
}

func (s *site) profile(w http.ResponseWriter, r *http.Request) {
	s.renderProfile(w, r, s.visitor(), r.PathValue("id"))
}

// renderProfile shows a user, or "Unknown User" in the words of the original:
// 404 if there is none, 503 if the service cannot say.
func (s *site) renderProfile(w http.ResponseWriter, r *http.Request, who user, id string) {
	const none = "This profile doesn't exist or at least we couldn't find it."
	if service.NameFault(id) != "" {
		s.renderUnknown(w, who, http.StatusNotFound, nil, none)
		return
	}
	p, err := s.getProfile(r, who, id)
	switch {
	case statusOf(err) == http.StatusNotFound:
		s.renderUnknown(w, who, http.StatusNotFound, nil, none)
	case err != nil:
		s.renderUnknown(w, who, http.StatusServiceUnavailable, trouble("The profile cannot be shown", err), none)
	default:
		name := strings.TrimSpace(p.FirstName + " " + p.LastName)
		s.render(w, http.StatusOK, "profile", page{Title: name + "’s profile", Nav: "profile", User: who,
			Body: profileBody{Known: true, Profile: p}})
	}
}

func (s *site) renderUnknown(w http.ResponseWriter, who user, status int, a *alert, why string) {
	s.render(w, status, "profile", page{Title: "Unknown User", Nav: "profile", User: who, Alert: a, Body: profileBody{Why: why}})
}
