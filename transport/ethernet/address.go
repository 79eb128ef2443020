package ethernet

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A MAC is the address of a station, or of a group of them.
type MAC [6]byte

// Broadcast is the group of all stations.
var Broadcast = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// IsGroup reports whether m is a group's address: multicast, or broadcast.
func (m MAC) IsGroup() bool { return m[0]&1 != 0 }

// IsStation reports whether one station can have the address: no group has it, and
// it is not all zeros.
func (m MAC) IsStation() bool { return !m.IsGroup() && m != MAC{} }

// IsLinkLocal reports whether m is one of the sixteen groups 01:80:C2:00:00:0x, which
// concern one link and no more: no bridge forwards what is sent to them (IEEE 802.1Q,
// table 8-1). Spanning tree, pause, LACP, 802.1X and LLDP use them.
func (m MAC) IsLinkLocal() bool {
	return m[0] == 0x01 && m[1] == 0x80 && m[2] == 0xc2 && m[3] == 0 && m[4] == 0 && m[5]&0xf0 == 0
}

// String writes m as 02:00:5e:10:00:01.
func (m MAC) String() string {
	const digits = "0123456789abcdef"
	text := make([]byte, 0, 3*len(m))
	for i, b := range m {
		if i > 0 {
			text = append(text, ':')
		}
		text = append(text, digits[b>>4], digits[b&15])
	}
	return string(text)
}

// ParseMAC reads six pairs of hexadecimal digits, of any case, with colons or with
// hyphens between them.
func ParseMAC(text string) (m MAC, err error) {
	const length = 3*len(m) - 1
	if len(text) != length {
		return MAC{}, errForm
	}
	for i := range m {
		if i > 0 && (text[3*i-1] != text[2] || text[2] != ':' && text[2] != '-') {
			return MAC{}, errForm
		}
		high, low := digit(text[3*i]), digit(text[3*i+1])
		if high > 15 || low > 15 {
			return MAC{}, errForm
		}
		m[i] = high<<4 | low
	}
	return m, nil
}

var errForm = errors.New("not six pairs of hexadecimal digits as 02:00:5e:10:00:01")

// digit is the value of a hexadecimal digit; more than 15: it is none.
func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

// A VLAN is the virtual LAN of a frame: the identifier of its only tag, or those of
// its outer and its inner one (QinQ); 0: there is no such tag. A tag with identifier
// 0 bears a priority and no VLAN, and counts as none.
type VLAN struct{ Outer, Inner uint16 }

// ParseVLAN reads what String writes.
func ParseVLAN(text string) (v VLAN, err error) {
	outer, inner, two := strings.Cut(text, ".")
	if v.Outer, err = parseID(outer); err == nil && two {
		v.Inner, err = parseID(inner)
	}
	if err != nil || two && (v.Inner == 0 || v.Outer == 0) {
		return VLAN{}, errVLAN
	}
	return v, nil
}

var errVLAN = errors.New("neither a VLAN's number, from 0 to 4095, nor two with a dot between them")

func parseID(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 12)
	return uint16(n), err
}

// String writes v as 0, 100 or 100.7.
func (v VLAN) String() string {
	if v.Inner == 0 {
		return fmt.Sprint(v.Outer)
	}
	return fmt.Sprintf("%d.%d", v.Outer, v.Inner)
}
