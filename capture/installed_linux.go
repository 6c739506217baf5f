package capture

import (
	"fmt"

	"github.com/google/nftables"
)

// Installed reports whether a network namespace (-1: the caller's own) has the
// table that Apply makes.
func Installed(ns int) (bool, error) {
	c, err := connect(ns)
	if err != nil {
		return false, err
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("capture: list tables: %w", err)
	}
	for _, t := range tables {
		if t.Name == Table {
			return true, nil
		}
	}
	return false, nil
}
