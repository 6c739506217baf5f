package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
)

func main() {
	var c Case
	if err := json.NewDecoder(os.Stdin).Decode(&c); err != nil {
		fmt.Fprintln(os.Stderr, "join: read the case:", err)
		os.Exit(2)
	}
	r := Join(&c)
	for _, d := range r.Disagreements {
		fmt.Println(d)
	}
	fmt.Printf("%d connections on the wire (%d packets), %d in the table:", r.Captured, c.Capture.Packets, r.Joined)
	for _, k := range slices.Sorted(maps.Keys(r.ByKind)) {
		fmt.Printf(" %d %s,", r.ByKind[k], k)
	}
	if r.Remapped > 0 {
		fmt.Printf(" %d of them by another port,", r.Remapped)
	}
	if r.Carried > 0 {
		fmt.Printf(" %d more on connections that were kept,", r.Carried)
	}
	fmt.Printf(" %d disagreements\n", len(r.Disagreements))
	if len(r.Disagreements) > 0 || r.Captured == 0 {
		os.Exit(1)
	}
}
