package extension

import (
	"bytes"
	"strings"
	"testing"
)

func TestTheFirstByteTellsWhatAPlaintextIs(t *testing.T) {
	for n := range 256 {
		first := byte(n)
		upper := first >> 4
		packet := strings.ContainsRune("46ce", rune("0123456789abcdef"[upper]))
		partial := strings.ContainsRune("ce", rune("0123456789abcdef"[upper]))
		if IsPacket(first) != packet || IsPartial(first) != partial {
			t.Errorf("%#02x: packet %v, partial %v", first, IsPacket(first), IsPartial(first))
		}
		if partial && (!IsPacket(first&^PartialBit) || IsPartial(first&^PartialBit)) {
			t.Errorf("%#02x: without its bit it is no whole packet", first)
		}
		if IsDivisible(first) != (packet || first == 2) {
			t.Errorf("%#02x: divisible %v", first, IsDivisible(first))
		}
		if _, _, _, ok := Split([]byte{first, 0, 0, 0}); ok != (upper == 0) {
			t.Errorf("%#02x: header %v", first, ok)
		}
	}
}

func TestAHeaderIsSplitFromItsBodyAndItsPadding(t *testing.T) {
	for _, c := range []struct {
		name      string
		plaintext []byte
		kind      Kind
		flags     Flags
		body      string
		ok        bool
	}{
		{"nothing", nil, 0, 0, "", false},
		{"half a header", []byte{1, 0, 0}, 0, 0, "", false},
		{"an empty body", []byte{1, 0, 0, 0}, KindControl, 0, "", true},
		{"a body", []byte("\x02\x01\x00\x03abc"), KindFrame, PartialFrame, "abc", true},
		{"a body and padding", []byte("\x03\x02\x00\x03abc\x00\x00"), KindFragment, 2, "abc", true},
		{"padding that is not zero", []byte("\x01\xff\x00\x01a\xff\xff"), KindControl, 0xff, "a", true},
		{"an unknown kind", []byte("\x0f\x00\x00\x01a"), 15, 0, "a", true},
		{"kind 0", []byte("\x00\x00\x00\x01a"), 0, 0, "a", true},
		{"a body longer than what is there", []byte("\x01\x00\x00\x04abc"), 0, 0, "", false},
		{"a length with its bytes the wrong way round", []byte("\x01\x00\x03\x00abc"), 0, 0, "", false},
		{"the longest body", append([]byte{2, 0, 0xff, 0xff}, make([]byte, MaxBody)...), KindFrame, 0, string(make([]byte, MaxBody)), true},
		{"an IPv4 packet", []byte{0x45, 0, 0, 20}, 0, 0, "", false},
	} {
		kind, flags, body, ok := Split(c.plaintext)
		if kind != c.kind || flags != c.flags || string(body) != c.body || ok != c.ok {
			t.Errorf("%s: %v %v %q %v", c.name, kind, flags, body, ok)
		}
	}
}

func TestABodyEndsWhereItsPaddingBegins(t *testing.T) {
	plaintext := []byte("\x01\x00\x00\x01abc")
	_, _, body, _ := Split(plaintext)
	if _ = append(body, 'x'); !bytes.Equal(plaintext, []byte("\x01\x00\x00\x01abc")) {
		t.Error("appending to a body wrote over what lies behind it")
	}
}

func TestFragmentFlags(t *testing.T) {
	seen := 0
	for n := range 256 {
		f := Flags(n)
		index, last, ok := f.Fragment()
		if want := n < 16 && n != 1; ok != want {
			t.Errorf("%#02x: %v, want %v", n, ok, want)
		}
		if !ok {
			continue
		}
		seen++
		if last != (n%2 == 1) || index != n/2 || FragmentFlags(index, last) != f {
			t.Errorf("%#02x: index %d, last %v, and back %#02x", n, index, last, FragmentFlags(index, last))
		}
	}
	if seen != 2*MaxFragments-1 {
		t.Errorf("%d flags are possible", seen)
	}
}

func TestWhatMustNotBeSentPanics(t *testing.T) {
	good := someHello()
	without := func(change func(*Hello)) func() {
		h := good
		change(&h)
		return func() { h.Append(nil) }
	}
	for name, f := range map[string]func(){
		"a body too long":               func() { AppendHeader(nil, KindFrame, 0, MaxBody+1) },
		"a negative body":               func() { AppendHeader(nil, KindFrame, 0, -1) },
		"a single fragment":             func() { FragmentFlags(0, true) },
		"a ninth fragment":              func() { FragmentFlags(MaxFragments, false) },
		"a fragment before the first":   func() { FragmentFlags(-1, false) },
		"hello without instance":        without(func(h *Hello) { h.Instance = 0 }),
		"hello without sequence":        without(func(h *Hello) { h.Sequence = 0 }),
		"hello that saw half a hello":   without(func(h *Hello) { h.SeenSequence = 0 }),
		"hello that saw the other half": without(func(h *Hello) { h.SeenInstance = 0 }),
		"hello of a third mode":         without(func(h *Hello) { h.Mode = 2 }),
		"hello without version":         without(func(h *Hello) { h.Version = "" }),
		"hello with a long version":     without(func(h *Hello) { h.Version = "12345678901234567" }),
		"hello with an escape sequence": without(func(h *Hello) { h.Version = "\x1b[31m" }),
		"goodbye of nobody":             func() { AppendGoodbye(nil, GoingDown, 0) },
		"a probe smaller than itself":   func() { AppendProbe(nil, Probe{Size: MinProbe - 1}) },
		"a reply to one that is huge":   func() { AppendProbeReply(nil, Probe{Size: MaxProbe + 1}) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		})
	}
	good.Append(nil)
}

func TestNothingIsAllocatedPerMessage(t *testing.T) {
	buf := make([]byte, 0, 256)
	probe := AppendProbe(nil, Probe{7, 200, true})
	echo := AppendEcho(nil, 7)
	hello := someHello()
	for name, f := range map[string]func(){
		"header": func() { buf = AppendHeader(buf[:0], KindFragment, FragmentFlags(1, true), 100) },
		"split":  func() { Split(echo) },
		"fragment": func() {
			if index, last, ok := Flags(3).Fragment(); !ok || index != 1 || !last {
				t.Error("no fragment")
			}
		},
		"echo":    func() { buf = AppendEcho(buf[:0], 7) },
		"reply":   func() { buf = AppendEchoReply(buf[:0], 7) },
		"goodbye": func() { buf = AppendGoodbye(buf[:0], Removed, 7) },
		"hello":   func() { buf = hello.Append(buf[:0]) },
		"probe":   func() { buf = AppendProbe(buf[:0], Probe{7, 200, false}) },
		"answer":  func() { buf = AppendProbeReply(buf[:0], Probe{7, 200, true}) },
		"parse probe": func() {
			if _, ok := ParseProbe(probe[HeaderSize:]); !ok {
				t.Error("no probe")
			}
		},
		"parse echo": func() {
			if _, ok := ParseEcho(echo[HeaderSize:]); !ok {
				t.Error("no echo")
			}
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
