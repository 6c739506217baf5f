package sandbox

import "testing"

func TestExpand(t *testing.T) {
	env := environment{"A": "1", "LONG_NAME": "two", "EMPTY": ""}
	for in, want := range map[string]string{
		"":                    "",
		"plain":               "plain",
		"$(A)":                "1",
		"x$(A)y$(LONG_NAME)z": "x1ytwoz",
		"$(EMPTY)":            "",
		"$(UNKNOWN)":          "$(UNKNOWN)",
		"$$(A)":               "$(A)",
		"$$$(A)":              "$1",
		"$A ${A} $":           "$A ${A} $",
		"$(A":                 "$(A",
		"cost: 5$":            "cost: 5$",
		"$(A)$(A)":            "11",
		"$()":                 "$()",
		"$($(A))":             "$($(A))",
	} {
		if got := env.expand(in); got != want {
			t.Errorf("expand(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzExpand(f *testing.F) {
	f.Add("$(A)")
	f.Add("$$(A) $(B")
	f.Fuzz(func(t *testing.T, s string) { _ = environment{"A": "$(A)"}.expand(s) })
}
