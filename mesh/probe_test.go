package mesh

import (
	"maps"
	"testing"
)

func TestDoors(t *testing.T) {
	got := Doors([]uint16{6379, 3306, 6379, 8080})
	if want := map[uint16]uint16{3306: 15100, 6379: 15101, 8080: 15102}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	var many []uint16
	for p := uint16(1000); p > 900; p-- {
		many = append(many, p)
	}
	if got = Doors(many); len(got) != MaxProbeDoors || got[901] != ProbeDoor || got[965] != 0 {
		t.Errorf("%d doors: %v", len(got), got)
	}
}
