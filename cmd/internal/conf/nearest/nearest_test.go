package nearest

import (
	"strings"
	"testing"
)

func TestATypoFindsTheWordThatWasMeant(t *testing.T) {
	known := []string{"PrivateKey", "PublicKey", "PresharedKey", "AllowedIPs", "Endpoint", "MTU"}
	for typed, want := range map[string]string{
		"PrivatKey":   "PrivateKey",
		"pubilckey":   "PublicKey",
		"AllowedIP":   "AllowedIPs",
		"allowdips":   "AllowedIPs",
		"EndPiont":    "Endpoint",
		"MUT":         "MTU",
		"MTU":         "MTU",
		"Certificate": "",
		"":            "",
		"x":           "",

		strings.Repeat("PrivateKey", 100): "",
	} {
		if got := Word(typed, known); got != want {
			t.Errorf("Word(%q) = %q, want %q", typed, got, want)
		}
	}
}

func TestOfEquallyNearWordsTheFirstWins(t *testing.T) {
	if got := Word("PreUpp", []string{"PreUps", "PreUpt"}); got != "PreUps" {
		t.Errorf("got %q", got)
	}
}
