package quiet

import (
	"slices"
	"testing"
)

// What can be written stays, and so do other files.
func TestReadOnly(t *testing.T) {
	const maps = `00400000-00e3e000 r-xp 00000000 fe:00 9994737                            /opt/my bin/hasp-proxy
00e3e000-01b7b000 r--p 00a3e000 fe:00 9994737                            /opt/my bin/hasp-proxy
01b7b000-01c0f000 rw-p 0177b000 fe:00 9994737                            /opt/my bin/hasp-proxy
01c0f000-03c58000 rw-p 00000000 00:00 0 
7f0000000000-7f0000001000 r-xp 00000000 fe:00 9994737                    /opt/my bin/hasp-proxy.so
7f0000002000-7f0000003000 r-xp 00000000 fe:00 9994737                    /usr/bin/hasp-proxy
wrong r-xp 00000000 fe:00 9994737                                        /opt/my bin/hasp-proxy
00002000-00001000 r-xp 00000000 fe:00 9994737                            /opt/my bin/hasp-proxy
7ffd9a9f6000-7ffd9a9f8000 r-xp 00000000 00:00 0                          [vdso]
`
	want := []span{{0x400000, 0xe3e000}, {0xe3e000, 0x1b7b000}}
	if got := readOnly(maps, "/opt/my bin/hasp-proxy"); !slices.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

// The program goes on when its pages are taken away.
func TestShrink(t *testing.T) {
	took, before, err := self{}.usage()
	if err != nil || took <= 0 || before <= 0 {
		t.Fatalf("took %s, holds %d, %v", took, before, err)
	}
	self{}.shrink()
	if _, after, err := (self{}).usage(); err != nil || after >= before {
		t.Errorf("holds %d, before %d, %v", after, before, err)
	}
}
