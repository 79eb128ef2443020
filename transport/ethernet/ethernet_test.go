package ethernet

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const addresses = "020000000001" + "060000000002"

func TestAHeaderIsReadBehindUpToTwoTags(t *testing.T) {
	for _, c := range []struct {
		frame string
		vlan  VLAN
		kind  uint16
		size  int
	}{
		{"0800", VLAN{}, TypeIPv4, 14},
		{"002a", VLAN{}, 42, 14},
		{"8100" + "0064" + "86dd", VLAN{100, 0}, TypeIPv6, 18},
		{"8100" + "e064" + "86dd", VLAN{100, 0}, TypeIPv6, 18}, // priority 7
		{"8100" + "e000" + "0806", VLAN{}, 0x0806, 18},         // priority alone
		{"88a8" + "0064" + "8100" + "0007" + "0800", VLAN{100, 7}, TypeIPv4, 22},
		{"9100" + "0064" + "9100" + "0007" + "0800", VLAN{100, 7}, TypeIPv4, 22},
		{"8100" + "0000" + "8100" + "0007" + "0800", VLAN{7, 0}, TypeIPv4, 22},
		{"88a8" + "0064" + "8100" + "0007" + "8100" + "0009" + "0800", VLAN{100, 7}, 0x8100, 22},
	} {
		b := unhex(t, addresses+c.frame)
		h, ok := Parse(b)
		want := Header{Source: MAC{6, 0, 0, 0, 0, 2}, Destination: MAC{2, 0, 0, 0, 0, 1}, VLAN: c.vlan, Type: c.kind, Size: c.size}
		if !ok || h != want {
			t.Errorf("%s: %+v, want %+v", c.frame, h, want)
		}
		for n := range h.Size {
			if h, ok := Parse(b[:n]); ok && h.Size > n {
				t.Errorf("%s: %d bytes have a header of %d", c.frame, n, h.Size)
			}
		}
	}
	for _, short := range []string{"", addresses, addresses + "08", addresses + "8100", addresses + "8100" + "006408", addresses + "8100" + "0064" + "8100"} {
		if h, ok := Parse(unhex(t, short)); ok {
			t.Errorf("%q: %+v", short, h)
		}
	}
}

func TestAddressesAreToldApart(t *testing.T) {
	for text, c := range map[string]struct{ group, station, linkLocal bool }{
		"00:00:00:00:00:00": {},
		"02:00:00:00:00:01": {station: true},
		"ff:ff:ff:ff:ff:ff": {group: true},
		"33:33:00:00:00:01": {group: true},
		"01:80:c2:00:00:00": {group: true, linkLocal: true},
		"01:80:c2:00:00:0f": {group: true, linkLocal: true},
		"01:80:c2:00:00:10": {group: true},
		"01:80:c2:00:01:00": {group: true},
	} {
		m, err := ParseMAC(text)
		if err != nil || m.String() != text {
			t.Errorf("%s: %v, %v", text, m, err)
		}
		if m.IsGroup() != c.group || m.IsStation() != c.station || m.IsLinkLocal() != c.linkLocal {
			t.Errorf("%s: group %v, station %v, link-local %v", text, m.IsGroup(), m.IsStation(), m.IsLinkLocal())
		}
	}
	if m, err := ParseMAC("0A-00-5E-10-00-fF"); err != nil || m != (MAC{0x0a, 0, 0x5e, 0x10, 0, 0xff}) {
		t.Errorf("%v, %v", m, err)
	}
	for _, text := range []string{"", "02:00:00:00:00", "02:00:00:00:00:01:02", "02:00:00:00:00:0g", "02:00-00:00:00:01", "02.00.00.00.00.01", "2:0:0:0:0:1", "020000000001"} {
		if m, err := ParseMAC(text); err == nil {
			t.Errorf("%q is taken for %v", text, m)
		}
	}
}

// The vectors of the protocol know which frames may be partial.
func TestFramesOfTheVectorsMayBePartial(t *testing.T) {
	text, err := os.ReadFile("../extension/testdata/extensions.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Messages []struct {
			Name, Is string
			Fields   struct {
				Partial bool
				Begun   string
			}
		}
		Refused []struct{ Name, Why, Plaintext string }
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	good, bad := 0, 0
	for _, v := range vectors.Messages {
		if v.Is == "frame" && v.Fields.Partial {
			f := unhex(t, v.Fields.Begun)
			good++
			if !MayBePartial(f, len(f)) {
				t.Errorf("%s: it may not be partial", v.Name)
			}
			if h, _ := Parse(f); h.Size > HeaderSize {
				binary.BigEndian.PutUint16(f[h.Size-6:], typeOldServiceTag)
				if MayBePartial(f, len(f)) {
					t.Errorf("%s: it may be partial behind an old tag", v.Name)
				}
			}
		}
	}
	for _, v := range vectors.Refused {
		if b := unhex(t, v.Plaintext); v.Why == "frame" && len(b) >= 4 && b[1]&1 != 0 {
			f := b[4:][:binary.BigEndian.Uint16(b[2:])]
			bad++
			if MayBePartial(f, len(f)) {
				t.Errorf("%s: it may be partial", v.Name)
			}
		}
	}
	if good == 0 || bad == 0 {
		t.Errorf("%d vectors that may be, %d that may not", good, bad)
	}
}

func FuzzAHeaderLiesInItsFrame(f *testing.F) {
	for _, s := range []string{"0800", "8100006486dd", "88a800648100000708004500", "8100"} {
		b, err := hex.DecodeString(addresses + s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, 60)
	}
	f.Fuzz(func(t *testing.T, b []byte, length int) {
		h, ok := Parse(b)
		if ok != (h.Size > 0) || h.Size > len(b) || h.VLAN.Outer > 0xfff || h.VLAN.Inner > 0xfff || h.VLAN.Outer == 0 && h.VLAN.Inner != 0 {
			t.Errorf("% x: %+v, %v", b, h, ok)
		}
		if ok && (h.Size-HeaderSize)%tagSize != 0 {
			t.Errorf("% x: %+v", b, h)
		}
		// What may be partial has room for the field of its sum.
		if MayBePartial(b, length) {
			if length < h.Size+28 || len(b) < h.Size+28 {
				t.Errorf("% x of %d bytes may be partial", b, length)
			}
		}
	})
}
