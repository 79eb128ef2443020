package conf

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// number reads a decimal number from 0 to limit.
func number(s string, limit uint64) (uint64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n <= limit
}

// numberOrHex also takes 0x and hexadecimal digits.
func numberOrHex(s string, limit uint64) (uint64, bool) {
	if digits, found := strings.CutPrefix(strings.ToLower(s), "0x"); found {
		if digits == "" || strings.Trim(digits, "0123456789abcdef") != "" {
			return 0, false
		}
		n, err := strconv.ParseUint(digits, 16, 64)
		return n, err == nil && n <= limit
	}
	return number(s, limit)
}

// parsePrefix reads an address with or without /bits. The host bits stay; why says what is wrong, "" if nothing is.
func parsePrefix(s string) (prefix netip.Prefix, why string) {
	if s == "" {
		return prefix, "there is nothing between the commas"
	}
	text, bits, hasBits := strings.Cut(s, "/")
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return prefix, "it is no IP address, such as 10.9.0.1 or fd00::1"
	}
	if addr.Zone() != "" {
		return prefix, "a zone cannot stand here"
	}
	if addr.Is4In6() {
		return prefix, fmt.Sprintf("write IPv4 as IPv4, %s", addr.Unmap())
	}
	n := uint64(addr.BitLen())
	if hasBits {
		var ok bool
		if n, ok = number(bits, n); !ok {
			return prefix, fmt.Sprintf("behind the / stands a number from 0 to %d", addr.BitLen())
		}
	}
	return netip.PrefixFrom(addr, int(n)), ""
}

// splitEndpoint takes host:port apart and checks its form; it resolves nothing. The host comes without brackets.
// why says what is wrong, "" if nothing is.
func splitEndpoint(s string) (host string, port uint16, why string) {
	const form = "it is host:port, as vpn.example.net:51820, 192.0.2.1:51820 or [2001:db8::1]:51820"
	colon := strings.LastIndexByte(s, ':')
	whole := s
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		whole = s[1 : len(s)-1]
	}
	if addr, err := netip.ParseAddr(whole); err == nil && zoneFault(addr) == "" {
		return "", 0, fmt.Sprintf("there is no port; write %s with the right one", netip.AddrPortFrom(addr, 51820))
	}
	if strings.Contains(s, "://") {
		return "", 0, "it is no URL; " + form
	}
	if colon < 0 {
		return "", 0, "there is no port; " + form
	}
	host = s[:colon]
	n, ok := number(s[colon+1:], 65535)
	if !ok || n == 0 {
		return "", 0, "the port is a number from 1 to 65535"
	}
	port = uint16(n)
	inner, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		var closed bool
		if inner, closed = strings.CutSuffix(inner, "]"); !closed {
			return "", 0, form
		}
		if addr, err := netip.ParseAddr(inner); err != nil || !addr.Is6() {
			return "", 0, "only an IPv6 address stands in brackets"
		}
	} else if strings.Contains(host, ":") {
		return "", 0, "an IPv6 address stands in brackets: [2001:db8::1]:51820"
	}
	if addr, err := netip.ParseAddr(inner); err == nil {
		if addr.IsUnspecified() || addr.IsMulticast() {
			return "", 0, "no host can have this address"
		}
		return inner, port, zoneFault(addr)
	}
	return inner, port, hostnameFault(inner)
}

// zoneFault: behind the % of an address stands the name or number of an interface.
func zoneFault(a netip.Addr) string {
	if zone := a.Zone(); zone != "" && (len(zone) > 15 || !nameForm.MatchString(zone)) {
		return "behind the % stands the name of an interface, as in [fe80::1%eth0]:51820"
	}
	return ""
}

func hostnameFault(name string) string {
	name = strings.TrimSuffix(name, ".")
	if name == "" {
		return "there is no host before the port"
	}
	if len(name) > 253 {
		return "a host name has at most 253 characters"
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 {
			return "each part of a host name has 1 to 63 characters"
		}
		for _, r := range label {
			if r >= 0x80 {
				return "write a host name in ASCII (its xn-- form)"
			}
			if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_') {
				return fmt.Sprintf("%q cannot stand in a host name", r)
			}
		}
	}
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" {
		return "it is neither an IPv4 address nor a host name"
	}
	return ""
}
