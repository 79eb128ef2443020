package packet_test

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"

	"stunnel/test/memnet/packet"
)

// Both checksums were summed by hand.
func TestUDPOverIPv4IsWrittenAsTheRFCsSay(t *testing.T) {
	got := packet.UDP(netip.MustParseAddrPort("10.0.0.1:1000"), netip.MustParseAddrPort("10.0.0.2:2000"), []byte("hi"))
	want := "4500001e00000000401166cd0a0000010a000002" + "03e807d0000a77b6" + "6869"
	if hex.EncodeToString(got) != want {
		t.Errorf("packet %x, want %s", got, want)
	}
}

func TestWhatUDPMakesParseReads(t *testing.T) {
	for _, c := range []struct{ local, remote string }{
		{"10.0.0.1:1000", "10.0.0.2:2000"},
		{"[2001:db8::1]:1000", "[2001:db8::2]:2000"},
	} {
		local, remote := netip.MustParseAddrPort(c.local), netip.MustParseAddrPort(c.remote)
		for size := 52; size < 1500; size += 7 {
			b := packet.Sized(local, remote, size, "text")
			p, err := packet.Parse(b)
			if err != nil || len(b) != size || p.Local != local || p.Remote != remote || string(p.Payload[:4]) != "text" {
				t.Fatalf("%d bytes: %+v, %v", size, p, err)
			}
			for i := range b {
				if b[0]>>4 == 6 && (i >= 1 && i < 4 || i == 7) || i == 6 {
					continue // flow label and hop limit are under no checksum; i == 6 names the protocol of IPv6
				}
				b[i] ^= 0x10
				if _, err := packet.Parse(b); err == nil {
					t.Fatalf("a packet of %d bytes with byte %d changed is read", size, i)
				}
				b[i] ^= 0x10
			}
		}
	}
}

func TestCompleteGivesWhatUDPMakesWhateverWasInTheField(t *testing.T) {
	for _, c := range []struct{ local, remote string }{
		{"10.0.0.1:1000", "10.0.0.2:2000"},
		{"[2001:db8::1]:1000", "[2001:db8::2]:2000"},
	} {
		for size := range 40 {
			want := packet.UDP(netip.MustParseAddrPort(c.local), netip.MustParseAddrPort(c.remote), make([]byte, size))
			got := bytes.Clone(want)
			copy(packet.Checksum(got), "xx")
			if bytes.Equal(got, want) || !packet.Complete(got) || !bytes.Equal(got, want) {
				t.Errorf("% x, want % x", got, want)
			}
			if packet.Complete(append(got, 0)) {
				t.Error("a packet with a byte too many was completed")
			}
		}
	}
}

func TestParseRefusesPaddingAndTruncation(t *testing.T) {
	b := packet.UDP(netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2"), []byte("data"))
	if _, err := packet.Parse(append(b[:len(b):len(b)], 0)); err == nil {
		t.Error("a byte of padding is taken for a part of the packet")
	}
	for n := range b {
		if _, err := packet.Parse(b[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are read", n, len(b))
		}
	}
}
