package ui

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// item, board and profile are what the services answer, as far as the page
// shows it.
type item struct {
	ID      string `json:"id"`
	Owner   string `json:"owner"`
	Type    string `json:"type"`
	Raw     string `json:"raw"`
	Name    string `json:"name"`
	Created string `json:"created_at"`
	Lost    bool   `json:"-"` // the board names it, the service does not have it
}

// Time is when the item was made, or zero if that cannot be read.
func (it item) Time() time.Time {
	t, _ := time.Parse(time.RFC3339, it.Created)
	return t
}

// Link is the item's address if the item is one of the web and nothing else,
// or "".
func (it item) Link() string {
	u, err := url.Parse(it.Raw)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.ContainsAny(it.Raw, " \t\n") {
		return ""
	}
	return u.String()
}

type board struct {
	ID          string   `json:"id"`
	Owner       string   `json:"owner"`
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Private     bool     `json:"private"`
	Items       []string `json:"items"`
}

type profile struct {
	ID        string `json:"id"`
	FirstName string `json:"firstName"`
	LastName  string `json:"lastName"`
	AboutMe   string `json:"aboutMe"`
	Email     string `json:"emailAddress"`
	StyleID   string `json:"styleId"`
}

// pasted is a new item as the services take it.
type pasted struct {
	Owner string `json:"owner"`
	Type  string `json:"type"`
	Raw   string `json:"raw"`
	Name  string `json:"name"`
}

func paste(who user, text string) pasted {
	return pasted{Owner: who.Owner, Type: "string", Raw: text}
}

// create posts a document to boards and returns the id it was given.
func (s *site) create(r *http.Request, who user, doc any, path ...string) (string, error) {
	answer, err := s.boards.do(r.Context(), r, who, call{method: "POST", path: path, body: doc})
	if err != nil {
		return "", err
	}
	id, ok := strings.CutPrefix(answer, "Created ")
	if !ok {
		return "", &fault{service: s.boards.name, cause: errAnswer}
	}
	return id, nil
}

func (s *site) sharedItems(r *http.Request, who user) ([]item, error) {
	var items []item
	_, err := s.boards.do(r.Context(), r, who, call{method: "GET", path: []string{"shareditems"}, into: &items})
	return items, err
}

func (s *site) addSharedItem(r *http.Request, who user, text string) error {
	_, err := s.create(r, who, paste(who, text), "shareditems")
	return err
}

func (s *site) userItems(r *http.Request, who user) ([]item, error) {
	var items []item
	_, err := s.boards.do(r.Context(), r, who, call{method: "GET", path: []string{who.Owner, "items"}, into: &items})
	return items, err
}

func (s *site) userBoards(r *http.Request, who user) ([]board, error) {
	var boards []board
	_, err := s.boards.do(r.Context(), r, who, call{method: "GET", path: []string{who.Owner, "boards"}, into: &boards})
	return boards, err
}

func (s *site) addBoard(r *http.Request, who user, b board) error {
	b.Items = []string{}
	_, err := s.create(r, who, b, who.Owner, "boards")
	return err
}

func (s *site) getBoard(r *http.Request, who user, owner, id string) (board, error) {
	var b board
	_, err := s.boards.do(r.Context(), r, who, call{method: "GET", path: []string{owner, "boards", id}, into: &b})
	return b, err
}

// addToBoard makes an item and then puts it on the board. If the second fails,
// the item stays among the user's items, as in the original.
func (s *site) addToBoard(r *http.Request, who user, owner string, b board, text string) error {
	id, err := s.create(r, who, paste(who, text), owner, "items")
	if err != nil {
		return err
	}
	b.Items = append(b.Items, id)
	_, err = s.boards.do(r.Context(), r, who, call{method: "PUT", path: []string{owner, "boards", b.ID}, body: b})
	return err
}

// boardItems fetches the items of a board, eight at a time, in the board's
// order. One that is gone is marked as lost; any other failure is returned.
func (s *site) boardItems(r *http.Request, who user, owner string, ids []string) ([]item, error) {
	items := make([]item, len(ids))
	errs := make([]error, len(ids))
	slots := make(chan struct{}, 8)
	var calls sync.WaitGroup
	for i, id := range ids {
		slots <- struct{}{}
		calls.Go(func() {
			defer func() { <-slots }()
			_, errs[i] = s.boards.do(r.Context(), r, who, call{method: "GET", path: []string{owner, "items", id}, into: &items[i]})
		})
	}
	calls.Wait()
	for i, err := range errs {
		switch {
		case err == nil:
		case statusOf(err) == http.StatusNotFound:
			items[i] = item{ID: ids[i], Lost: true}
		default:
			return nil, err
		}
	}
	return items, nil
}

func (s *site) getProfile(r *http.Request, who user, id string) (profile, error) {
	var p profile
	_, err := s.profiles.do(r.Context(), r, who, call{method: "GET", path: []string{"users", id}, into: &p})
	return p, err
}
