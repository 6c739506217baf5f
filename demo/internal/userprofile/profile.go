// Package userprofile keeps who the users are: names, an address, a few words
// and a photo, in SQLite or PostgreSQL. [NewHandler] makes the HTTP side,
// [OpenSQLite] or [OpenPostgres] the store.
package userprofile

import (
	"encoding/json"
	"fmt"
	"net/mail"
	"strings"
	"time"
)

// MagicID is the user that is always there, whatever the store holds: the labs
// have no registration.
const MagicID = "575ddb6a-8d2f-4baf-9e7e-4d0184d69259"

// Profile is a user. Empty optional fields are left out of the JSON.
type Profile struct {
	ID           string    `json:"id"`
	FirstName    string    `json:"firstName"`
	LastName     string    `json:"lastName"`
	AboutMe      string    `json:"aboutMe,omitempty"`
	EmailAddress string    `json:"emailAddress"`
	CreatedAt    timestamp `json:"createdAt"`
	StyleID      string    `json:"styleId,omitempty"`
}

// magicProfile is the user of [MagicID].
func magicProfile(style string, now time.Time) Profile {
	return Profile{
		ID:           MagicID,
		FirstName:    "Sarah",
		LastName:     "Connor",
		AboutMe:      "There is no fate but what we make for ourselves.",
		EmailAddress: "sarahc@skynet.com",
		CreatedAt:    timestamp(now),
		StyleID:      style,
	}
}

// timestamp is a time as the original's JSON binding prints it, with the zone
// in brackets: 2019-04-12T11:43:24.201Z[UTC].
type timestamp time.Time

// MarshalJSON implements [json.Marshaler].
func (t timestamp) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Time(t).UTC().Format("2006-01-02T15:04:05.000Z") + "[UTC]")
}

// profileRequest is what a client may say of a user. A createdAt that comes
// along is not read: the service knows it.
type profileRequest struct {
	ID           string `json:"id"`
	FirstName    string `json:"firstName"`
	LastName     string `json:"lastName"`
	AboutMe      string `json:"aboutMe"`
	EmailAddress string `json:"emailAddress"`
	StyleID      string `json:"styleId"`
}

func (q profileRequest) profile(now time.Time) Profile {
	return Profile{
		ID: q.ID, FirstName: q.FirstName, LastName: q.LastName, AboutMe: q.AboutMe,
		EmailAddress: q.EmailAddress, CreatedAt: timestamp(now), StyleID: q.StyleID,
	}
}

// fault says what is wrong with a request, or "".
func (q profileRequest) fault() string {
	for _, f := range []struct {
		what, value string
		required    bool
		max         int
	}{
		{"id", q.ID, true, 128},
		{"first name", q.FirstName, true, 255},
		{"last name", q.LastName, true, 255},
		{"email address", q.EmailAddress, true, 255},
		{"about me", q.AboutMe, false, 4096},
		{"style id", q.StyleID, false, 16},
	} {
		switch {
		case f.required && strings.TrimSpace(f.value) == "":
			return f.what + " cannot be blank"
		case len(f.value) > f.max:
			return fmt.Sprintf("%s is longer than %d bytes", f.what, f.max)
		case strings.ContainsRune(f.value, 0): // PostgreSQL's text cannot hold it
			return f.what + " has a zero byte"
		}
	}
	if a, err := mail.ParseAddress(q.EmailAddress); err != nil || a.Address != q.EmailAddress {
		return "email address should be valid"
	}
	return ""
}
