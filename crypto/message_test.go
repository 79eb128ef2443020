package crypto

import "testing"

func TestTypeWantsTheExactShape(t *testing.T) {
	message := func(head [4]byte, n int) []byte {
		msg := make([]byte, n)
		copy(msg, head[:])
		return msg
	}
	exact := map[MessageType]int{TypeInitiation: 148, TypeResponse: 92, TypeCookieReply: 64}
	for n := range 2000 {
		for b := range 256 {
			typ := MessageType(b)
			got, ok := Type(message([4]byte{byte(b)}, n))
			want := exact[typ] == n && n > 0 || typ == TypeTransport && n >= 32
			if ok != want || ok && got != typ {
				t.Fatalf("type %d in %d bytes: %v, %v", b, n, got, ok)
			}
			if b > 5 && n > 150 {
				break // no type at all, and n is nobody's length
			}
		}
	}
	for _, head := range [][4]byte{{1, 1}, {1, 0, 1}, {1, 0, 0, 1}, {1, 0, 0, 0x80}} {
		if _, ok := Type(message(head, InitiationSize)); ok {
			t.Errorf("reserved bytes %v", head[1:])
		}
	}
}

func TestFieldsAreLittleEndianAndWhereTheWhitepaperPutsThem(t *testing.T) {
	count := func(typ MessageType, n int) []byte {
		msg := make([]byte, n)
		for i := range msg {
			msg[i] = byte(i)
		}
		putHeader(msg, typ)
		return msg
	}
	for _, c := range []struct {
		what      string
		got, want uint64
	}{
		{"sender of an initiation", uint64(Sender(count(TypeInitiation, InitiationSize))), 0x07060504},
		{"sender of a response", uint64(Sender(count(TypeResponse, ResponseSize))), 0x07060504},
		{"receiver of a response", uint64(Receiver(count(TypeResponse, ResponseSize))), 0x0b0a0908},
		{"receiver of a cookie reply", uint64(Receiver(count(TypeCookieReply, CookieReplySize))), 0x07060504},
		{"receiver of a transport message", uint64(Receiver(count(TypeTransport, 32))), 0x07060504},
		{"counter", uint64(MessageCounter(count(TypeTransport, 32))), 0x0f0e0d0c0b0a0908},
	} {
		if c.got != c.want {
			t.Errorf("%s: %#x, want %#x", c.what, c.got, c.want)
		}
	}
	for typ, want := range map[MessageType]string{1: "initiation", 2: "response", 3: "cookie reply", 4: "transport", 0: "unknown", 5: "unknown"} {
		if typ.String() != want {
			t.Errorf("type %d is called %q", typ, typ)
		}
	}
}
