package ui

// user is who looks at the page.
type user struct {
	// Name is what the page calls the visitor.
	Name string
	// Owner is the name under which items and boards are kept.
	Owner string
	// ProfileID is the visitor's id in userprofile, or "".
	ProfileID string
	// Token goes to the services as a bearer token, or "" if nobody is signed in.
	Token    string
	SignedIn bool
}

// visitor is everybody: with FAKE_USER the demo's user, whose profile is the
// built-in one and whose token is none, and else nobody in particular. Both own
// what they paste as "anonymous", as the lab's document prints it.
func (s *site) visitor() user {
	if s.cfg.FakeUser {
		return user{
			Name:      "Sarah",
			Owner:     "anonymous",
			ProfileID: "575ddb6a-8d2f-4baf-9e7e-4d0184d69259",
			Token:     "XXXXXXXXX",
			SignedIn:  true,
		}
	}
	return user{Name: "Anonymous", Owner: "anonymous"}
}
