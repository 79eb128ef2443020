package crypto

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestKeysAreReadAndWrittenAsWGDoes(t *testing.T) {
	// Bob's pair of RFC 7748, section 6.1; the private key is not clamped there.
	private, err := ParsePrivateKeyHex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
	if err != nil {
		t.Fatal(err)
	}
	if got := private.Hex(); got != "58ab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e06b" {
		t.Errorf("not clamped as it should be: %s", got)
	}
	if got := private.Public().Hex(); got != "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f" {
		t.Errorf("public key %s", got)
	}

	k := NewPrivateKey()
	for _, parse := range []func() (PrivateKey, error){
		func() (PrivateKey, error) { return ParsePrivateKey(k.Base64()) },
		func() (PrivateKey, error) { return ParsePrivateKeyHex(k.Hex()) },
		func() (PrivateKey, error) { return ParsePrivateKeyHex(strings.ToUpper(k.Hex())) },
	} {
		if got, err := parse(); err != nil || !got.Equal(k) {
			t.Errorf("a private key came back otherwise: %v", err)
		}
	}
	p := k.Public()
	if got, err := ParsePublicKey(p.String()); err != nil || got != p || len(p.String()) != 44 {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := ParsePublicKeyHex(p.Hex()); err != nil || !got.Equal(p) {
		t.Errorf("%v, %v", got, err)
	}
	psk := NewPresharedKey()
	if got, err := ParsePresharedKey(psk.Base64()); err != nil || !got.Equal(psk) {
		t.Error(err)
	}
	if got, err := ParsePresharedKeyHex(psk.Hex()); err != nil || got != psk {
		t.Error(err)
	}
}

func TestPrivateKeysAreClampedAndTheZeroKeyStaysZero(t *testing.T) {
	for range 50 {
		k := NewPrivateKey()
		if k[0]&7 != 0 || k[31]&128 != 0 || k[31]&64 == 0 {
			t.Fatal("a new key is not clamped")
		}
		if k.IsZero() {
			t.Fatal("a new key is zero")
		}
	}
	zero, err := ParsePrivateKeyHex(strings.Repeat("0", 64))
	if err != nil || !zero.IsZero() {
		t.Errorf("64 zeros: %v", err)
	}
	zero, err = ParsePrivateKey("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	if err != nil || !zero.IsZero() {
		t.Errorf("base64 of zeros: %v", err)
	}
	if !(PublicKey{}).IsZero() || !(PresharedKey{}).IsZero() || (PublicKey{1}).IsZero() || (PresharedKey{31: 1}).IsZero() {
		t.Error("IsZero")
	}
	if (PrivateKey{1}).Equal(PrivateKey{2}) || (PublicKey{1}).Equal(PublicKey{}) || (PresharedKey{}).Equal(PresharedKey{31: 9}) {
		t.Error("unlike keys are Equal")
	}
}

func TestErrorsAboutKeysSayWhereAndNeverQuote(t *testing.T) {
	good := NewPrivateKey().Base64()
	digits := NewPrivateKey().Hex()
	parseHex := func(s string) error { _, err := ParsePrivateKeyHex(s); return err }
	parseBase64 := func(s string) error { _, err := ParsePrivateKey(s); return err }
	for _, c := range []struct {
		parse func(string) error
		text  string
		says  string
	}{
		{parseBase64, "", "not 0"},
		{parseBase64, good[:43], "not 43"},
		{parseBase64, good + "=", "not 45"},
		{parseBase64, good[:7] + "%" + good[8:], "character 8 "},
		{parseBase64, good[:20] + "\n" + good[21:], "character 21 "},
		{parseBase64, good[:20] + "-" + good[21:], "character 21 "},
		{parseBase64, good[:42] + "==", "character 43 "},
		{parseBase64, good[:43] + "A", "character 44"},
		{parseBase64, good[:42] + "B=", "character 43 "}, // stray bits
		{parseBase64, strings.Repeat("é", 22), "character 1 "},
		{parseHex, digits[:63], "not 63"},
		{parseHex, digits[:10] + "g" + digits[11:], "character 11 "},
		{parseHex, digits[:62] + "0x", "character 64 "},
	} {
		err := c.parse(c.text)
		if err == nil {
			t.Errorf("%q was taken", c.text)
			continue
		}
		if !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v, want %q in it", c.text, err, c.says)
		}
		for n := 0; n+4 <= len(c.text); n++ {
			if strings.Contains(err.Error(), c.text[n:n+4]) {
				t.Errorf("%v quotes the key", err)
			}
		}
	}
}

// holders are all things of this package that have a secret somewhere within.
func holders(t *testing.T) map[string]any {
	p := newPair(t)
	msg, i := p.initiate(t, 1)
	r, err := Accept(p.bob, msg, p.lookup)
	if err != nil {
		t.Fatal(err)
	}
	alice, _ := p.keypairs(t)
	checker := NewCookieChecker(p.bob)
	jar := NewCookieJar(p.aliceToBob)
	jar.Stamp(msg, 0)
	jar.Consume(checker.Reply(msg, aliceAt, 0), 0)
	k, psk := p.alice.private, p.psk
	type conf struct {
		Key PrivateKey
		PSK *PresharedKey
	}
	return map[string]any{
		"private key": k, "*private key": &k, "preshared key": psk, "*preshared key": &psk,
		"struct": conf{k, &psk}, "*struct": &conf{k, &psk}, "slice": []PrivateKey{k}, "map": map[string]PresharedKey{"psk": psk},
		"identity": p.alice, "remote": p.aliceToBob, "initiator": i, "responder": r, "keypair": alice,
		"checker": checker, "jar": jar,
	}
}

// secretTexts are the ways in which 32 secret bytes may come to paper.
func secretTexts(secrets ...[]byte) (texts []string) {
	for _, s := range secrets {
		s = s[:12] // a part is bad enough
		texts = append(texts,
			fmt.Sprintf("%x", s), fmt.Sprintf("%X", s), fmt.Sprintf("% x", s), fmt.Sprint(s)[1:24],
			strings.Trim(fmt.Sprintf("%#v", s), "[]byte{}"), string(s), PrivateKey(append(bytes.Clone(s), make([]byte, 20)...)).Base64()[:16])
	}
	return texts
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	// The secrets of known bytes, so that we know what to look for.
	k := PrivateKey(bytes.Repeat([]byte{0xa8}, KeySize)).clamped()
	psk := PresharedKey(bytes.Repeat([]byte{0x5c}, KeySize))
	secrets := secretTexts(k[:], psk[:])
	own := map[string]any{
		"private key": k, "*private key": &k, "preshared key": psk, "*preshared key": &psk,
		"struct":   struct{ K PrivateKey }{k},
		"*struct":  &struct{ P *PresharedKey }{&psk},
		"slice":    []PrivateKey{k},
		"map":      map[string]PresharedKey{"psk": psk},
		"identity": identityOf(t, k),
		"error":    fmt.Errorf("with %v and %v: %w", k, psk, errors.New("an error")),
	}
	for name, v := range own {
		expectHidden(t, name, v, secrets)
	}
	// Nor any bytes at all of what computes with them.
	for name, v := range holders(t) {
		if _, isHolder := v.(fmt.Formatter); !isHolder {
			continue
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "% x", "%#x", "%08b", "%c", "%t"} {
			if got := fmt.Sprintf(verb, v); got != hiddenText {
				t.Errorf("%s under %s: %s", name, verb, got)
			}
		}
		if got := fmt.Sprint(v) + fmt.Sprintln(v); got != hiddenText+hiddenText+"\n" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func expectHidden(t *testing.T, name string, v any, secrets []string) {
	t.Helper()
	printed := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "% x", "%o", "%b", "%c", "%U"} {
		printed[verb] = fmt.Sprintf(verb, v)
	}
	text, err := json.Marshal(v)
	if err != nil {
		text = []byte(err.Error())
	}
	printed["json"] = string(text)
	for kind, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"slog text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"slog json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var b bytes.Buffer
		slog.New(handler(&b)).Info("hello", "v", v, slog.Group("g", "v", v))
		printed[kind] = b.String()
	}
	for how, got := range printed {
		for _, secret := range secrets {
			if strings.Contains(got, secret) {
				t.Errorf("%s under %s shows a secret: %s", name, how, got)
			}
		}
	}
}

func TestSecretsSayThatTheyAreHidden(t *testing.T) {
	k, psk := NewPrivateKey(), NewPresharedKey()
	if k.String() != hiddenText || psk.String() != hiddenText || k.GoString() != hiddenText || psk.GoString() != hiddenText {
		t.Error("String")
	}
	for _, v := range []any{k, psk} {
		text, err := json.Marshal(v)
		if err != nil || string(text) != `"(hidden)"` {
			t.Errorf("%s, %v", text, err)
		}
	}
	text, err := json.Marshal(map[PublicKey]PublicKey{{}: {}})
	if want := `{"` + (PublicKey{}).Base64() + `":"` + (PublicKey{}).Base64() + `"}`; err != nil || string(text) != want {
		t.Errorf("public keys are %s, want %s", text, want)
	}
	if got, _ := k.MarshalText(); string(got) != hiddenText {
		t.Error("MarshalText")
	}
	if got, _ := psk.MarshalText(); string(got) != hiddenText {
		t.Error("MarshalText")
	}
	if k.LogValue().String() != hiddenText || psk.LogValue().String() != hiddenText {
		t.Error("LogValue")
	}
}
