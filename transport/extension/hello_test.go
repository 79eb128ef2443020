package extension

import (
	"strings"
	"testing"
)

func someHello() Hello {
	return Hello{
		Wanted: true, Mode: ModeTAP, Capabilities: TrustedChecksums | Frames, Instance: 0x0102030405060708, Sequence: 0x090a0b0c,
		SeenInstance: 0x0d0e0f1011121314, SeenSequence: 0x15161718, Version: "1.2.3-rc.1+x",
	}
}

func TestAHelloIsItsFieldsInOrder(t *testing.T) {
	h := someHello()
	const want = "\x01\x01\x00\x2c" + // control, answer wanted, 44 bytes
		"\x01\x01\x0c\x00" + // hello, tap, 12 characters
		"\x00\x00\x00\x09" +
		"\x01\x02\x03\x04\x05\x06\x07\x08" + "\x09\x0a\x0b\x0c" +
		"\x0d\x0e\x0f\x10\x11\x12\x13\x14" + "\x15\x16\x17\x18" +
		"1.2.3-rc.1+x"
	got := h.Append([]byte("before"))
	if string(got) != "before"+want {
		t.Fatalf("%q, want %q", got, want)
	}
	_, flags, body, ok := Split(got[len("before"):])
	if !ok {
		t.Fatal("no header")
	}
	if back, ok := ParseHello(flags, body); !ok || back != h {
		t.Fatalf("%+v, %v; want %+v", back, ok, h)
	}
}

func TestAHelloIsRefusedForEachFieldThatIsNotAsItMustBe(t *testing.T) {
	h := someHello()
	good := string(h.Append(nil)[HeaderSize:])
	set := func(at int, bytes string) string { return good[:at] + bytes + good[at+len(bytes):] }
	zeros := func(n int) string { return strings.Repeat("\x00", n) }
	for _, c := range []struct {
		name, body string
		ok         bool
	}{
		{"as it was said", good, true},
		{"nothing", "", false},
		{"another type", set(0, "\x02"), false},
		{"a third mode", set(helloMode, "\x02"), false},
		{"no version", set(helloVersionLength, "\x00"), false},
		{"a shorter version, and something behind it", set(helloVersionLength, "\x01"), true},
		{"a version longer than what is there", set(helloVersionLength, "\x0d"), false},
		{"a version of 16 characters", set(helloVersionLength, "\x10") + "abcd", true},
		{"a version of 17 characters", set(helloVersionLength, "\x11") + "abcde", false},
		{"a reserved byte that is not zero", set(3, "\xff"), true},
		{"no instance", set(helloInstance, zeros(8)), false},
		{"no sequence", set(helloSequence, zeros(4)), false},
		{"a seen sequence of nobody", set(helloSeenInstance, zeros(8)), false},
		{"a seen instance that said nothing", set(helloSeenSequence, zeros(4)), false},
		{"nobody seen", set(helloSeenInstance, zeros(12)), true},
		{"an unknown ordinary capability", set(helloCapabilities+2, "\x80"), true},
		{"an unknown critical capability", set(helloCapabilities, "\x80"), true},
		{"a space in the version", set(helloVersion+3, " "), false},
		{"an end of line in the version", set(helloVersion, "\n"), false},
		{"a letter beyond ASCII in the version", set(helloVersion, "é"), false},
		{"a slash in the version", set(helloVersion, "/"), false},
		{"one byte short", good[:len(good)-1], false},
		{"without its version", good[:helloVersion], false},
		{"half of it", good[:20], false},
		{"something behind it", good + "\x00later", true},
		{"as long as it may be", good + zeros(MaxHello-HeaderSize-len(good)), true},
		{"too long by one byte", good + zeros(MaxHello-HeaderSize-len(good)+1), false},
	} {
		if _, ok := ParseHello(0, []byte(c.body)); ok != c.ok {
			t.Errorf("%s: %v, want %v", c.name, ok, c.ok)
		}
	}
}

func TestAnAnswerIsWantedByOneBitOfTheFlags(t *testing.T) {
	h := someHello()
	body := h.Append(nil)[HeaderSize:]
	for n := range 256 {
		if got, ok := ParseHello(Flags(n), body); !ok || got.Wanted != (n%2 == 1) {
			t.Errorf("%#02x: wanted %v, %v", n, got.Wanted, ok)
		}
	}
	if h.Wanted = false; h.Append(nil)[1] != 0 {
		t.Error("a hello that wants no answer has flags")
	}
}

func TestOnlyUnknownCriticalCapabilitiesRefuse(t *testing.T) {
	for bit := range 32 {
		c := Capabilities(1) << bit
		if refused := (c | TrustedChecksums).Refused(); (refused != 0) != (bit >= 16) || refused != 0 && refused != c {
			t.Errorf("bit %d: refused %#x", bit, refused)
		}
	}
	if c := TrustedChecksums | Echo; !c.Has(Echo) || c.Has(Echo|Frames) || !c.Has(0) {
		t.Error("Has")
	}
}

func TestAVersionIsMadeFit(t *testing.T) {
	for in, want := range map[string]string{
		"1.2.3":                   "1.2.3",
		"development":             "development",
		"1.2.3-rc.1+2f3a9c1d4e":   "1.2.3-rc.1+2f3a9",
		"":                        "unknown",
		"1.0 (modified)":          "1.0--modified-",
		"\x1b[31mred":             "--31mred",
		"héé":                     "h--",
		"\xff\xfe":                "--",
		"ééééééééééééééééééé":     "----------------",
		"azAZ09.+-_/:@[`{":        "azAZ09.+--------",
		"exactly-16-bytes":        "exactly-16-bytes",
		"exactly-16-bytes-and-on": "exactly-16-bytes",
	} {
		if got := FitVersion(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
