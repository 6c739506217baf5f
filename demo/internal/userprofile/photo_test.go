package userprofile

import (
	"mime"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzFileName feeds names that strangers may give their photos: what comes
// out is a plain name that a header can carry.
func FuzzFileName(f *testing.F) {
	for _, seed := range []string{"", "a.png", "../../x", `C:\x\y.png`, "..", "\x00\n", "é\xff", strings.Repeat("ü", 100), "/. ./x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got := fileName(name)
		switch {
		case len(got) > 128, !utf8.ValidString(got), strings.ContainsAny(got, "/\\\x00\r\n"), strings.HasPrefix(got, "."):
			t.Errorf("fileName(%q) = %q", name, got)
		}
		if header := mime.FormatMediaType("image", map[string]string{"filename": got}); header == "" {
			t.Errorf("no header can carry fileName(%q) = %q", name, got)
		}
		if again := fileName(got); again != got {
			t.Errorf("fileName(%q) = %q, and of that %q", name, got, again)
		}
	})
}
