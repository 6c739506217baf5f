package boards

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"sharedboards/internal/service"
)

// maxBody bounds a request body; an item is text that a person pastes.
const maxBody = 64 << 10

// badRequest is the client's mistake, in words for the client.
type badRequest struct {
	status int
	why    string
}

func (e badRequest) Error() string { return e.why }

// encode is what JavaScript's JSON.stringify(v, null, 2) prints: two spaces,
// no line break at the end, and <, > and & as they are.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode the answer: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// document answers 200 with v as JSON.
func document(w http.ResponseWriter, v any) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // a client that has gone is not our error
	return nil
}

// text answers a line of plain text, without a line break as the original.
func text(w http.ResponseWriter, status int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, line)
}

// itemRequest is what a client may say of an item. Ids and times that come
// along, as in an item that was read and is sent back, are not read at all.
type itemRequest struct {
	Owner string `json:"owner"`
	Type  string `json:"type"`
	Raw   string `json:"raw"`
	Name  string `json:"name"`
}

func (q itemRequest) item() Item {
	return Item{Owner: q.Owner, Type: q.Type, Raw: q.Raw, Name: q.Name}
}

// boardRequest is what a client may say of a board.
type boardRequest struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Private     bool     `json:"private"`
	Items       []string `json:"items"`
}

func (q boardRequest) board() Board {
	return Board{Name: q.Name, Description: q.Description, Private: q.Private, Items: q.Items}
}

// decode reads the one JSON object of a request body.
func decode[T itemRequest | boardRequest](w http.ResponseWriter, r *http.Request) (T, error) {
	var q T
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return q, badRequest{http.StatusUnsupportedMediaType, "the body must be application/json"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return q, badRequest{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", maxBody)}
	case err != nil:
		return q, badRequest{http.StatusBadRequest, "the body did not arrive whole"}
	}
	if !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
		return q, badRequest{http.StatusBadRequest, "the body is not a JSON object"}
	}
	if err := json.Unmarshal(body, &q); err != nil {
		return q, badRequest{http.StatusBadRequest, "the body is not the JSON we expect: " + err.Error()}
	}
	return q, nil
}

// checkNames refuses paths whose user or id could be no name: too long, not
// UTF-8, or with characters that do not print.
func checkNames(r *http.Request) error {
	for _, key := range []string{"user", "id"} {
		if why := service.NameFault(r.PathValue(key)); why != "" {
			return badRequest{http.StatusBadRequest, fmt.Sprintf("the %s in the path %s", key, why)}
		}
	}
	return nil
}
