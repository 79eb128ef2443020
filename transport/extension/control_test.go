package extension

import (
	"bytes"
	"testing"
)

func TestControlMessagesAreTheirFieldsInOrder(t *testing.T) {
	for _, c := range []struct {
		name string
		msg  []byte
		want string
	}{
		{"echo", AppendEcho(nil, 0x0102030405060708), "\x01\x00\x00\x0c\x02\x00\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08"},
		{"echo reply", AppendEchoReply(nil, 0x0102030405060708), "\x01\x00\x00\x0c\x03\x00\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08"},
		{"goodbye", AppendGoodbye(nil, Removed, 0x0102030405060708), "\x01\x00\x00\x0c\x04\x01\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08"},
		{"probe", AppendProbe(nil, Probe{0x0102030405060708, 18, true}), "\x01\x00\x00\x0e\x05\x01\x00\x12\x01\x02\x03\x04\x05\x06\x07\x08\x00\x00"},
		{"probe reply", AppendProbeReply(nil, Probe{0x0102030405060708, 0x1234, false}), "\x01\x00\x00\x0c\x06\x00\x12\x34\x01\x02\x03\x04\x05\x06\x07\x08"},
	} {
		if string(c.msg) != c.want {
			t.Errorf("%s: %x, want %x", c.name, c.msg, c.want)
		}
		_, _, body, ok := Split(c.msg)
		typ, typed := TypeOf(body)
		if !ok || !typed || typ.String() != c.name {
			t.Errorf("%s: it is a %v", c.name, typ)
		}
	}
}

func TestAControlMessageParsesAsNothingButItsType(t *testing.T) {
	const token = 0xfedcba9876543210
	hello := someHello()
	for want, msg := range map[ControlType][]byte{
		TypeHello:     hello.Append(nil),
		TypeEcho:      AppendEcho(nil, token),
		TypeEchoReply: AppendEchoReply(nil, token),
		TypeGoodbye:   AppendGoodbye(nil, GoingDown, token),

		TypeProbe:      AppendProbe(nil, Probe{token, 100, false}),
		TypeProbeReply: AppendProbeReply(nil, Probe{token, 100, true}),
	} {
		body := msg[HeaderSize:]
		_, isHello := ParseHello(0, body)
		echo, isEcho := ParseEcho(body)
		reply, isReply := ParseEchoReply(body)
		_, instance, isGoodbye := ParseGoodbye(body)
		probe, isProbe := ParseProbe(body)
		answer, isAnswer := ParseProbeReply(body)
		got := map[ControlType]bool{
			TypeHello: isHello, TypeEcho: isEcho && echo == token, TypeEchoReply: isReply && reply == token, TypeGoodbye: isGoodbye && instance == token,
			TypeProbe: isProbe && probe == Probe{token, 100, false}, TypeProbeReply: isAnswer && answer == Probe{token, 100, true},
		}
		for typ, is := range got {
			if is != (typ == want) {
				t.Errorf("%v is a %v: %v", want, typ, is)
			}
		}
	}
	if _, ok := TypeOf(nil); ok {
		t.Error("an empty body has a type")
	}
	if typ, ok := TypeOf([]byte{7}); !ok || typ.String() != "unknown" {
		t.Errorf("type 7 is %v, %v", typ, ok)
	}
}

func TestWhatFollowsAControlMessageIsIgnoredAndWhatIsMissingIsNot(t *testing.T) {
	for _, msg := range [][]byte{AppendEcho(nil, 7), AppendEchoReply(nil, 7), AppendGoodbye(nil, Removed, 7)} {
		whole := msg[HeaderSize:]
		parse := func(body []byte) (number uint64, ok bool) {
			switch ControlType(whole[0]) {
			case TypeEcho:
				n, ok := ParseEcho(body)
				return uint64(n), ok
			case TypeEchoReply:
				n, ok := ParseEchoReply(body)
				return uint64(n), ok
			}
			_, n, ok := ParseGoodbye(body)
			return uint64(n), ok
		}
		for n := range whole {
			if _, ok := parse(whole[:n]); ok {
				t.Errorf("%d of %d bytes of %x parse", n, len(whole), whole)
			}
		}
		longer := append(bytes.Clone(whole), make([]byte, 1400)...)
		longer[2], longer[3] = 0xff, 0xff // reserved in each of them
		if n, ok := parse(longer); !ok || n != 7 {
			t.Errorf("%x with 1400 bytes behind it: %d, %v", whole, n, ok)
		}
	}
}

func TestAGoodbye(t *testing.T) {
	for _, c := range []struct {
		body   string
		reason Reason
		ok     bool
	}{
		{"\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01", GoingDown, true},
		{"\x04\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01", Removed, true},
		{"\x04\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01", GoingDown, true},
		{"\x04\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01", GoingDown, true},
		{"\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 0, false},
	} {
		if r, _, ok := ParseGoodbye([]byte(c.body)); r != c.reason || ok != c.ok {
			t.Errorf("%x: reason %d, %v", c.body, r, ok)
		}
	}
}

func TestNoEchoIsSmallerThanItsReply(t *testing.T) {
	reply := AppendEchoReply(nil, 7)
	for n := range len(reply) {
		if _, ok := ParseEcho(reply[HeaderSize:][:max(0, n-HeaderSize)]); ok {
			t.Fatalf("an echo of %d bytes is answered with %d", n, len(reply))
		}
	}
}
