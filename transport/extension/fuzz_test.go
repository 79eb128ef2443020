package extension

import (
	"bytes"
	"testing"
)

// Every parser gets any bytes: it must not panic, must not write, and what it takes
// must come out again in the one way in which it is sent.

// seeds are one message of each kind and a few that are almost one.
func seeds() [][]byte {
	h := someHello()
	first := h
	first.Wanted, first.SeenInstance, first.SeenSequence, first.Version = false, 0, 0, "1"
	return [][]byte{
		{}, {0x45}, {1, 0, 0}, {1, 0, 0, 0}, {1, 0, 0xff, 0xff},
		h.Append(nil), first.Append(nil), append(h.Append(nil), make([]byte, 16)...),
		AppendEcho(nil, 1), AppendEchoReply(nil, 1<<63), AppendGoodbye(nil, Removed, 1), AppendGoodbye(nil, GoingDown, 1<<64-1),
		AppendProbe(nil, Probe{3, 40, true}), AppendProbeReply(nil, Probe{3, 40, true}), AppendProbeReply(nil, Probe{3, 1440, false}),
		append(AppendHeader(nil, KindFrame, PartialFrame, 14), make([]byte, 14)...),
		append(AppendHeader(nil, KindFragment, FragmentFlags(7, true), 2), 1, 2),
		{4, 0, 0, 0}, {0xc5, 0, 0, 20},
	}
}

func FuzzSplit(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, plaintext []byte) {
		before := bytes.Clone(plaintext)
		kind, flags, body, ok := Split(plaintext)
		if !bytes.Equal(plaintext, before) {
			t.Fatal("the plaintext was changed")
		}
		if !ok {
			if kind != 0 || flags != 0 || body != nil {
				t.Fatal("something came out of what was refused")
			}
			return
		}
		again := append(AppendHeader(nil, kind, flags, len(body)), body...)
		if !bytes.HasPrefix(plaintext, again) {
			t.Fatalf("%x was split, and put together as %x", plaintext, again)
		}
		if IsPacket(plaintext[0]) {
			t.Fatal("an IP packet has a header")
		}
		if kind == KindFragment {
			if index, last, ok := flags.Fragment(); ok && FragmentFlags(index, last) != flags {
				t.Fatalf("flags %#x are %d, %v", flags, index, last)
			}
		}
	})
}

func FuzzParseHello(f *testing.F) {
	for _, s := range seeds() {
		f.Add(byte(1), s[min(HeaderSize, len(s)):])
	}
	f.Fuzz(func(t *testing.T, flags byte, body []byte) {
		before := bytes.Clone(body)
		h, ok := ParseHello(Flags(flags), body)
		if !bytes.Equal(body, before) {
			t.Fatal("the body was changed")
		}
		if !ok {
			if h != (Hello{}) {
				t.Fatal("something came out of what was refused")
			}
			return
		}
		if FitVersion(h.Version) != h.Version {
			t.Fatalf("version %q", h.Version)
		}
		said := h.Append(nil)
		if len(said) > MaxHello {
			t.Fatalf("%d bytes", len(said))
		}
		// Only reserved bits and what follows the version may differ.
		canonical := bytes.Clone(body[:len(said)-HeaderSize])
		canonical[3] = 0
		_, flagsAgain, bodyAgain, ok := Split(said)
		if !ok || !bytes.Equal(bodyAgain, canonical) || flagsAgain != Flags(flags)&Wanted {
			t.Fatalf("%x was parsed, and said as %x", body, said)
		}
		if again, ok := ParseHello(flagsAgain, bodyAgain); !ok || again != h {
			t.Fatalf("%+v was said, and parsed as %+v", h, again)
		}
	})
}

func FuzzHelloAppend(f *testing.F) {
	f.Add(true, byte(1), uint32(0xffff_000f), uint64(1), uint32(1), uint64(0), uint32(0), "1.2.3")
	f.Add(false, byte(0), uint32(0), uint64(1<<64-1), uint32(1<<32-1), uint64(1), uint32(1), "")
	f.Fuzz(func(t *testing.T, wanted bool, mode byte, capabilities uint32, instance uint64, sequence uint32, seenInstance uint64, seenSequence uint32, version string) {
		h := Hello{
			Wanted: wanted, Mode: Mode(mode % 2), Capabilities: Capabilities(capabilities), Instance: Instance(max(1, instance)), Sequence: Sequence(max(1, sequence)),
			SeenInstance: Instance(seenInstance), SeenSequence: Sequence(seenSequence), Version: FitVersion(version),
		}
		if seenInstance == 0 || seenSequence == 0 {
			h.SeenInstance, h.SeenSequence = 0, 0
		}
		said := h.Append([]byte{0xaa})
		kind, flags, body, ok := Split(said[1:])
		typ, typed := TypeOf(body)
		if !ok || !typed || said[0] != 0xaa || kind != KindControl || typ != TypeHello {
			t.Fatalf("%+v was said as %x", h, said)
		}
		if again, ok := ParseHello(flags, body); !ok || again != h {
			t.Fatalf("%+v was said, and parsed as %+v", h, again)
		}
	})
}

func FuzzParseControl(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s[min(HeaderSize, len(s)):])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		typ, typed := TypeOf(body)
		var said []byte
		reserved := []int{2, 3}
		filling := 12 // from there on, and bits of the second byte
		flags := byte(0xff)
		parsed := 0
		if token, ok := ParseEcho(body); ok {
			parsed++
			said, reserved = AppendEcho(nil, token), []int{1, 2, 3}
		}
		if token, ok := ParseEchoReply(body); ok {
			parsed++
			said, reserved = AppendEchoReply(nil, token), []int{1, 2, 3}
		}
		if reason, instance, ok := ParseGoodbye(body); ok {
			parsed++
			said = AppendGoodbye(nil, reason, instance)
			if reason == GoingDown {
				reserved = []int{1, 2, 3}
			}
		}
		if p, ok := ParseProbe(body); ok {
			parsed++
			said, reserved, flags = AppendProbe(nil, p), nil, 1
		}
		if p, ok := ParseProbeReply(body); ok {
			parsed++
			said, reserved, flags = AppendProbeReply(nil, p), nil, 1
			body = append(bytes.Clone(body), make([]byte, max(0, len(said)-HeaderSize-len(body)))...) // one cut short is taken
			before = bytes.Clone(body)
		}
		if !bytes.Equal(body, before) {
			t.Fatal("the body was changed")
		}
		if parsed == 0 {
			return
		}
		if parsed != 1 || !typed || said[HeaderSize] != byte(typ) {
			t.Fatalf("%x is %d things, %v among them", body, parsed, typ)
		}
		if len(said)-HeaderSize > len(body) {
			t.Fatalf("%x grew to %x", body, said)
		}
		canonical := bytes.Clone(body[:len(said)-HeaderSize])
		for _, at := range reserved {
			canonical[at] = 0
		}
		canonical[1] &= flags
		clear(canonical[filling:])
		_, header, again, ok := Split(said)
		if !ok || header != 0 || !bytes.Equal(again, canonical) {
			t.Fatalf("%x was parsed, and said as %x", body, said)
		}
	})
}
