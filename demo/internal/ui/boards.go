package ui

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"sharedboards/internal/service"
)

// shownItems bounds how many items a page shows, the newest ones.
const shownItems = 150

type dashboardBody struct {
	Boards []board
	Form   board // what was typed, when it could not be kept
	Open   bool  // show the form at once
}

func (s *site) dashboard(w http.ResponseWriter, r *http.Request) {
	s.renderDashboard(w, r, http.StatusOK, nil, board{})
}

// renderDashboard shows the boards, and under an alert the form as it was sent.
func (s *site) renderDashboard(w http.ResponseWriter, r *http.Request, status int, a *alert, form board) {
	who := s.visitor()
	boards, err := s.userBoards(r, who)
	if err != nil && a == nil {
		status, a = http.StatusServiceUnavailable, trouble("Your boards cannot be shown", err)
	}
	slices.Reverse(boards) // newest first
	s.render(w, status, "dashboard", page{Title: "Your boards", Nav: "boards", User: who, Alert: a,
		Body: dashboardBody{Boards: boards, Form: form, Open: form.Name != "" || form.Description != ""}})
}

func (s *site) newBoard(w http.ResponseWriter, r *http.Request) {
	form, err := readForm(w, r)
	var b board
	if err == nil {
		b, err = boardFrom(form)
	}
	if err != nil {
		s.renderDashboard(w, r, http.StatusBadRequest, &alert{"The board was not made", err.Error()}, b)
		return
	}
	if err := s.addBoard(r, s.visitor(), b); err != nil {
		s.renderDashboard(w, r, http.StatusServiceUnavailable, trouble("The board was not made", err), b)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// boardFrom reads the form of a new board. The error is in words for the visitor.
func boardFrom(form url.Values) (board, error) {
	b := board{Private: form.Get("newboardprivate") != ""}
	var err error
	if b.Description, err = field(form, "newboarddesc", "The description", maxDescription); err != nil {
		return b, err
	}
	b.Name, err = field(form, "newboardname", "The name", maxBoardName)
	b.Name = strings.TrimSpace(b.Name)
	if err == nil && b.Name == "" {
		err = errNoName
	}
	return b, err
}

type boardBody struct {
	Board board
	Items []item // newest first
	More  int    // how many older ones are not shown
	Draft string // what was typed, when it could not be kept
	Post  string // where the form goes
}

func (s *site) board(w http.ResponseWriter, r *http.Request) {
	s.renderBoard(w, r, http.StatusOK, nil, "")
}

// renderBoard shows one board, and under an alert the text as it was sent.
func (s *site) renderBoard(w http.ResponseWriter, r *http.Request, status int, a *alert, draft string) {
	owner, id, ok := s.boardNames(w, r)
	if !ok {
		return
	}
	who := s.visitor()
	b, err := s.getBoard(r, who, owner, id)
	if statusOf(err) == http.StatusNotFound {
		s.missing(w, "There is no such board", "It may have been deleted, or the address is mistyped.")
		return
	}
	body := boardBody{Board: b, Draft: draft, Post: "/" + url.PathEscape(owner) + "/board/" + url.PathEscape(id) + "/paste"}
	if err == nil {
		ids := b.Items
		if len(ids) > shownItems {
			ids = ids[len(ids)-shownItems:]
		}
		body.More = len(b.Items) - len(ids)
		body.Items, err = s.boardItems(r, who, owner, ids)
		slices.Reverse(body.Items)
	}
	if err != nil && a == nil {
		status, a = http.StatusServiceUnavailable, trouble("This board cannot be shown", err)
	}
	s.render(w, status, "board", page{Title: or(b.Name, "Board"), Nav: "boards", User: who, Alert: a, Body: body})
}

func (s *site) boardPaste(w http.ResponseWriter, r *http.Request) {
	owner, id, ok := s.boardNames(w, r)
	if !ok {
		return
	}
	text, err := pasteFrom(w, r)
	if err != nil {
		s.renderBoard(w, r, http.StatusBadRequest, &alert{"Nothing was added", err.Error()}, text)
		return
	}
	who := s.visitor()
	b, err := s.getBoard(r, who, owner, id)
	if err == nil {
		err = s.addToBoard(r, who, owner, b, text)
	}
	if err != nil {
		s.renderBoard(w, r, http.StatusServiceUnavailable, trouble("Nothing was added", err), text)
		return
	}
	http.Redirect(w, r, "/"+url.PathEscape(owner)+"/board/"+url.PathEscape(id), http.StatusSeeOther)
}

// boardNames are the owner and the id in the path, if they can be any.
func (s *site) boardNames(w http.ResponseWriter, r *http.Request) (owner, id string, ok bool) {
	owner, id = r.PathValue("user"), r.PathValue("id")
	if service.NameFault(owner) != "" || service.NameFault(id) != "" {
		s.missing(w, "There is no such board", "No board has an address like this.")
		return "", "", false
	}
	return owner, id, true
}
