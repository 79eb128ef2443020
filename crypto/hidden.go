package crypto

import (
	"fmt"
	"io"
	"log/slog"
)

// hiddenText stands where a secret would; wg(8) shows the same.
const hiddenText = "(hidden)"

// String does not return the key: see Base64 and Hex.
func (PrivateKey) String() string { return hiddenText }

// GoString does not return the key.
func (PrivateKey) GoString() string { return hiddenText }

// Format hides the key from every verb of package fmt.
func (PrivateKey) Format(s fmt.State, _ rune) { hide(s) }

// LogValue hides the key from log/slog.
func (PrivateKey) LogValue() slog.Value { return slog.StringValue(hiddenText) }

// MarshalText hides the key from encoding/json and its kin.
func (PrivateKey) MarshalText() ([]byte, error) { return []byte(hiddenText), nil }

// MarshalJSON hides the key.
func (PrivateKey) MarshalJSON() ([]byte, error) { return []byte(`"` + hiddenText + `"`), nil }

// String does not return the key: see Base64 and Hex.
func (PresharedKey) String() string { return hiddenText }

// GoString does not return the key.
func (PresharedKey) GoString() string { return hiddenText }

// Format hides the key from every verb of package fmt.
func (PresharedKey) Format(s fmt.State, _ rune) { hide(s) }

// LogValue hides the key from log/slog.
func (PresharedKey) LogValue() slog.Value { return slog.StringValue(hiddenText) }

// MarshalText hides the key from encoding/json and its kin.
func (PresharedKey) MarshalText() ([]byte, error) { return []byte(hiddenText), nil }

// MarshalJSON hides the key.
func (PresharedKey) MarshalJSON() ([]byte, error) { return []byte(`"` + hiddenText + `"`), nil }

// opaque is embedded in every type that keeps secrets in unexported fields, which
// fmt and log/slog would otherwise print byte by byte.
type opaque struct{}

// Format hides the value from every verb of package fmt.
func (opaque) Format(s fmt.State, _ rune) { hide(s) }

// LogValue hides the value from log/slog.
func (opaque) LogValue() slog.Value { return slog.StringValue(hiddenText) }

func hide(w io.Writer) { io.WriteString(w, hiddenText) }
