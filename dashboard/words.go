package dashboard

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"hasp/mesh"
	"hasp/truth"
)

// funcs are the words that the pages put numbers and states in.
var funcs = template.FuncMap{
	"lockWord": lockWord, "securityLock": securityLock, "securityWord": securityWord,
	"percent": percent, "took": took, "size": size, "per": per, "count": count,
	"ago": ago, "stamp": stamp, "isoTime": isoTime, "span": span, "skew": skew,
	"partyName": partyName, "partyHref": partyHref, "nodeHref": nodeHref, "whyHref": whyHref, "edgeHref": edgeHref,
	"short": short, "origin": origin, "join": strings.Join, "version": assetsVersion,
	"arrows": func() []string {
		return []string{"closed", "partial", "open", "refused", "none", truth.Cut, truth.Upgraded, truth.Weakened, truth.Reset, truth.Freed}
	},
	"effectWord": effectWord, "effectLock": func(what string) string { return line{Effect: what}.Icon() },
	"hinder": func(lines []truth.Plain) int {
		n := 0
		for i := range lines {
			if lines[i].Hinders() {
				n++
			}
		}
		return n
	},
	// What a part of a page is handed, by name.
	"when":  func(t, now time.Time) map[string]any { return map[string]any{"T": t, "Now": now} },
	"shake": func(h *mesh.Handshake, now time.Time) map[string]any { return map[string]any{"H": h, "Now": now} },
	"list":  func(lines []line, what bool) map[string]any { return map[string]any{"Lines": lines, "What": what} },
	"plain": func(caption string, lines []truth.Plain, now time.Time) map[string]any {
		return map[string]any{"Caption": caption, "Lines": lines, "Now": now}
	},
	"links": func(caption string, links []truth.Link, more int, now time.Time) map[string]any {
		return map[string]any{"Caption": caption, "Links": links, "More": more, "Now": now}
	},
	"side": func(title string, c *truth.Connection, now time.Time) map[string]any {
		return map[string]any{"Title": title, "C": c, "Now": now}
	},
}

// lockWord is a lock in words.
func lockWord(lock string) string {
	switch lock {
	case "closed":
		return "mutual TLS"
	case "partial":
		return "partly mutual TLS"
	case "open":
		return "plaintext"
	case "refused":
		return "refused"
	case "":
		return "no traffic"
	}
	return lock
}

// securityLock is the lock that a connection of this kind wears.
func securityLock(s mesh.Security, allowed bool) string {
	switch {
	case !allowed:
		return "refused"
	case s == mesh.MutualTLS:
		return "closed"
	case s == mesh.SimpleTLS || s == mesh.PassedTLS:
		return "partial"
	}
	return "open"
}

func securityWord(s mesh.Security) string {
	switch s {
	case mesh.Plaintext:
		return "plaintext"
	case mesh.MutualTLS:
		return "mutual TLS"
	case mesh.SimpleTLS:
		return "TLS, of the server only"
	case mesh.PassedTLS:
		return "the application's own TLS"
	case mesh.Probed:
		return "probe"
	}
	return "not known"
}

// percent rounds down: 100 % means all.
func percent(share float64) string { return strconv.Itoa(int(math.Floor(share*100))) + " %" }

func took(d time.Duration) string {
	switch {
	case d <= 0:
		return "–"
	case d < 10*time.Millisecond:
		return strconv.FormatFloat(float64(d)/1e6, 'f', 1, 64) + " ms"
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	}
	return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
}

func size(n uint64) string {
	f := float64(n)
	for _, unit := range []string{"B", "kB", "MB", "GB", "TB"} {
		if f < 1000 || unit == "TB" {
			if unit == "B" || f >= 100 {
				return fmt.Sprintf("%.0f %s", f, unit)
			}
			return fmt.Sprintf("%.1f %s", f, unit)
		}
		f /= 1000
	}
	panic("unreachable")
}

// per is a rate in the window, per second.
func per(n uint64, window time.Duration) string {
	r := float64(n) / window.Seconds()
	switch {
	case n == 0:
		return "0/s"
	case r < 0.1:
		return "<0.1/s"
	case r < 100:
		return strconv.FormatFloat(r, 'f', 1, 64) + "/s"
	}
	return strconv.FormatFloat(r, 'f', 0, 64) + "/s"
}

// count is a number and its noun.
func count(n any, one, many string) string {
	s := fmt.Sprint(n)
	if s == "1" {
		return "1 " + one
	}
	return s + " " + many
}

// span is a duration in the largest unit that says enough.
func span(d time.Duration) string {
	d = d.Abs()
	switch {
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < 2*time.Minute:
		return strconv.FormatInt(int64(d/time.Second), 10) + " s"
	case d < 2*time.Hour:
		return strconv.FormatInt(int64(d/time.Minute), 10) + " min"
	case d < 48*time.Hour:
		return strconv.FormatInt(int64(d/time.Hour), 10) + " h"
	}
	return count(int64(d/(24*time.Hour)), "day", "days")
}

// skew of a clock, as by how much it is ahead.
func skew(d time.Duration) string {
	if d <= -time.Millisecond {
		return "−" + span(d)
	}
	return span(d)
}

func ago(t, now time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero():
		return "never"
	case d < 2*time.Second:
		return "now"
	default:
		return span(d) + " ago"
	}
}

func stamp(t time.Time) string   { return t.Local().Format(time.DateTime) }
func isoTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// origin is the object that decided, for a person.
func origin(o mesh.Origin) string { return o.String() }

// partyName is how a party is called: by its pod, else by its address.
func partyName(p truth.Party) string {
	return cmp.Or(p.Workload, p.String())
}

func partyHref(p truth.Party) string {
	if p.Workload == "" {
		return nodeHref(p.ID())
	}
	return nodeHref(p.Workload)
}

// nodeHref is the page of a node: NAMESPACE/NAME or an address or network.
func nodeHref(id string) string {
	namespace, name, ok := strings.Cut(id, "/")
	if !ok || name == "" || strings.ContainsAny(namespace, ".:") {
		return "/outside?address=" + url.QueryEscape(id)
	}
	return "/workload/" + url.PathEscape(namespace) + "/" + url.PathEscape(name)
}

func whyHref(trace string) string { return "/why/" + url.PathEscape(trace) }

func edgeHref(from, to string, port uint16) string {
	return "/edge?" + url.Values{"from": {from}, "to": {to}, "port": {strconv.Itoa(int(port))}}.Encode()
}

// short cuts a long name in its middle: both ends tell it from others.
func short(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	r := []rune(s)
	head := (n - 1) / 2
	return string(r[:head]) + "…" + string(r[len(r)-(n-1-head):])
}
