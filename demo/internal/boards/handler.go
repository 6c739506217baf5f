package boards

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// HandlerConfig is what the HTTP side needs.
type HandlerConfig struct {
	Store *Store
	Log   *slog.Logger
	// Now is the clock, time.Now if nil.
	Now func() time.Time
	// Broken makes every request fail with 503, for labs about failure (BREAKME).
	Broken bool
}

// NewHandler serves the boards API. Paths and answers are those of the
// original's boardsapi.yaml; deleting what is not there is 204, as it was.
func NewHandler(cfg HandlerConfig) http.Handler {
	if cfg.Broken {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			text(w, http.StatusServiceUnavailable, "Service Unavailable")
		})
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	h := handler{store: cfg.Store, log: cfg.Log, now: cfg.Now}
	mux := http.NewServeMux()
	for pattern, handle := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /shareditems":           h.listShared,
		"POST /shareditems":          h.addShared,
		"GET /{user}/items":          h.listItems,
		"POST /{user}/items":         h.addItem,
		"GET /{user}/items/{id}":     h.getItem,
		"PUT /{user}/items/{id}":     h.updateItem,
		"DELETE /{user}/items/{id}":  h.deleteItem,
		"GET /{user}/boards":         h.listBoards,
		"POST /{user}/boards":        h.addBoard,
		"GET /{user}/boards/{id}":    h.getBoard,
		"PUT /{user}/boards/{id}":    h.updateBoard,
		"DELETE /{user}/boards/{id}": h.deleteBoard,
	} {
		mux.HandleFunc(pattern, h.guard(handle))
	}
	return mux
}

type handler struct {
	store *Store
	log   *slog.Logger
	now   func() time.Time
}

// guard checks the names in the path and turns an error into its status.
func (h handler) guard(handle func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := checkNames(r)
		if err == nil {
			err = handle(w, r)
		}
		var bad badRequest
		switch {
		case err == nil:
		case errors.As(err, &bad):
			text(w, bad.status, bad.Error())
		case errors.Is(err, ErrNotFound):
			text(w, http.StatusNotFound, "Not Found")
		default:
			h.log.Error("request failed", slog.String("path", r.URL.EscapedPath()), slog.String("error", err.Error()))
			text(w, http.StatusInternalServerError, "Internal Server Error")
		}
	}
}

func (h handler) listShared(w http.ResponseWriter, r *http.Request) error {
	items, err := h.store.SharedItems(r.Context())
	if err != nil {
		return err
	}
	return document(w, items)
}

func (h handler) addShared(w http.ResponseWriter, r *http.Request) error {
	in, err := decode[itemRequest](w, r)
	if err != nil {
		return err
	}
	it := in.item()
	owner := it.Owner
	if owner == "" {
		owner = anonymous
	}
	it.stamp(owner, h.now())
	if err := h.store.AddSharedItem(r.Context(), it); err != nil {
		return err
	}
	return created(w, it.ID)
}

func (h handler) listItems(w http.ResponseWriter, r *http.Request) error {
	items, err := h.store.Items(r.Context(), r.PathValue("user"))
	if err != nil {
		return err
	}
	return document(w, items)
}

func (h handler) addItem(w http.ResponseWriter, r *http.Request) error {
	in, err := decode[itemRequest](w, r)
	if err != nil {
		return err
	}
	it := in.item()
	it.stamp(r.PathValue("user"), h.now())
	if err := h.store.AddItem(r.Context(), it); err != nil {
		return err
	}
	return created(w, it.ID)
}

func (h handler) getItem(w http.ResponseWriter, r *http.Request) error {
	it, err := h.store.Item(r.Context(), r.PathValue("user"), r.PathValue("id"))
	if err != nil {
		return err
	}
	return document(w, it)
}

func (h handler) updateItem(w http.ResponseWriter, r *http.Request) error {
	in, err := decode[itemRequest](w, r)
	if err != nil {
		return err
	}
	if err := h.store.UpdateItem(r.Context(), r.PathValue("user"), r.PathValue("id"), in.item()); err != nil {
		return err
	}
	return updated(w, r.PathValue("id"))
}

func (h handler) deleteItem(w http.ResponseWriter, r *http.Request) error {
	if err := h.store.DeleteItem(r.Context(), r.PathValue("user"), r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h handler) listBoards(w http.ResponseWriter, r *http.Request) error {
	boards, err := h.store.Boards(r.Context(), r.PathValue("user"))
	if err != nil {
		return err
	}
	return document(w, boards)
}

func (h handler) addBoard(w http.ResponseWriter, r *http.Request) error {
	in, err := decode[boardRequest](w, r)
	if err != nil {
		return err
	}
	b := in.board()
	b.stamp(r.PathValue("user"), h.now())
	if err := h.store.AddBoard(r.Context(), b); err != nil {
		return err
	}
	return created(w, b.ID)
}

func (h handler) getBoard(w http.ResponseWriter, r *http.Request) error {
	b, err := h.store.Board(r.Context(), r.PathValue("user"), r.PathValue("id"))
	if err != nil {
		return err
	}
	return document(w, b)
}

func (h handler) updateBoard(w http.ResponseWriter, r *http.Request) error {
	in, err := decode[boardRequest](w, r)
	if err != nil {
		return err
	}
	if err := h.store.UpdateBoard(r.Context(), r.PathValue("user"), r.PathValue("id"), in.board()); err != nil {
		return err
	}
	return updated(w, r.PathValue("id"))
}

func (h handler) deleteBoard(w http.ResponseWriter, r *http.Request) error {
	if err := h.store.DeleteBoard(r.Context(), r.PathValue("user"), r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func created(w http.ResponseWriter, id string) error {
	text(w, http.StatusCreated, fmt.Sprintf("Created %s", id))
	return nil
}

func updated(w http.ResponseWriter, id string) error {
	text(w, http.StatusAccepted, fmt.Sprintf("Updated %s", id))
	return nil
}
