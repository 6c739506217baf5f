package record

import (
	"fmt"
	"io"
	"log/slog"
)

// hidden, embedded, is all that a type shows of itself, whoever prints it.
type hidden struct{}

const hiddenText = "secret"

func (hidden) String() string               { return hiddenText }
func (hidden) GoString() string             { return hiddenText }
func (hidden) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, hiddenText) }
func (hidden) LogValue() slog.Value         { return slog.StringValue(hiddenText) }
func (hidden) MarshalText() ([]byte, error) { return []byte(hiddenText), nil }
