//go:build !linux

package quiet

import (
	"errors"
	"time"
)

func (self) usage() (time.Duration, int, error) { return 0, 0, errors.ErrUnsupported }

func dropProgram() {}
