package truth

import "time"

// DefaultRecent is how many ended connections of a proxy are kept.
const DefaultRecent = 256

// Limits bound what a Book holds. A zero field takes its default.
type Limits struct {
	Proxies     int // known at a time
	Live        int // connections of one proxy
	Recent      int // ended connections of one proxy
	Connections int // of all proxies
	EdgesOf     int // lines of one proxy
	Edges       int // lines of all proxies
	Samples     int // of the lines, for figures of the last minute
	Text        int // bytes of any one string
	Days        int // how long a line that does not move is kept
}

func (l *Limits) withDefaults() {
	for _, f := range []struct {
		field *int
		value int
	}{
		{&l.Proxies, 10_000}, {&l.Live, 4096}, {&l.Recent, DefaultRecent}, {&l.Connections, 100_000},
		{&l.EdgesOf, 2048}, {&l.Edges, 200_000}, {&l.Samples, 500_000}, {&l.Text, 256}, {&l.Days, 30},
	} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
}

// retention is Days.
func (l *Limits) retention() time.Duration { return time.Duration(l.Days) * 24 * time.Hour }
