package control

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"stunnel/transport"
)

// appendStatus writes s as the reply to a get, without the errno at its end. What
// belongs to the device comes before the first peer, which is where wg(8) looks.
func appendStatus(b []byte, s *transport.Status) []byte {
	if !s.PrivateKey.IsZero() {
		b = appendText(b, "private_key=", s.PrivateKey.Hex())
	}
	b = appendNumber(b, "listen_port=", uint64(s.ListenPort))
	if s.FwMark != 0 {
		b = appendNumber(b, "fwmark=", uint64(s.FwMark))
	}
	b = appendListening(b, s)
	b = appendText(b, "up=", strconv.FormatBool(s.Up))
	b = appendNumber(b, "mtu=", uint64(max(s.MTU, 0)))
	if s.Lanes > 0 {
		b = appendNumber(b, "lanes=", uint64(s.Lanes))
	}
	for _, o := range s.Offloads {
		if isWord(o.Name) {
			b = appendText(b, "offload_"+o.Name+"=", offloadText(o))
		}
	}
	b = appendText(b, "trusted_checksums=", strconv.FormatBool(s.TrustedChecksums))
	b = appendEthernet(b, s.Ethernet)
	b = appendDrops(b, s.Drops)
	for i := range s.Peers {
		b = appendPeer(b, &s.Peers[i])
	}
	return b
}

func appendPeer(b []byte, p *transport.PeerStatus) []byte {
	b = appendText(b, "public_key=", p.PublicKey.Hex())
	b = appendText(b, "preshared_key=", p.PresharedKey.Hex())
	b = appendText(b, "protocol_version=", "1")
	if p.Name != "" {
		b = appendText(b, "name=", escapeName(p.Name))
	}
	if p.Endpoint.IsValid() {
		b = appendText(b, "endpoint=", p.Endpoint.String())
	}
	var sec, nsec uint64
	if !p.LastHandshake.IsZero() && p.LastHandshake.Unix() > 0 {
		sec = uint64(p.LastHandshake.Unix())
		nsec = uint64(max(p.LastHandshake.Nanosecond(), 1)) // wgctrl takes 0 for never
	}
	b = appendNumber(b, "last_handshake_time_sec=", sec)
	b = appendNumber(b, "last_handshake_time_nsec=", nsec)
	b = appendNumber(b, "tx_bytes=", p.TxBytes)
	b = appendNumber(b, "rx_bytes=", p.RxBytes)
	b = appendNumber(b, "persistent_keepalive_interval=", uint64(p.PersistentKeepalive/time.Second))
	for _, prefix := range p.AllowedIPs {
		b = append(b, "allowed_ip="...)
		b = append(prefix.AppendTo(b), '\n')
	}
	return appendDrops(appendPort(appendExtensions(appendCarrier(b, p), p), &p.Port), p.Drops)
}

// offloadText is "on", or "off" and why, a comma and a space between them.
func offloadText(o transport.Offload) string {
	if o.Off == "" {
		return "on"
	}
	return "off, " + escapeName(o.Off)
}

func appendDrops(b []byte, drops map[string]uint64) []byte {
	for _, reason := range slices.Sorted(maps.Keys(drops)) {
		if drops[reason] != 0 && isWord(reason) {
			b = appendNumber(b, "drop_"+reason+"=", drops[reason])
		}
	}
	return b
}

// isWord says whether s is a word as reasons, offloads and extensions are: one that a key can have in it.
func isWord(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return s != ""
}

func appendText(b []byte, key, value string) []byte {
	return append(append(append(b, key...), value...), '\n')
}

func appendNumber(b []byte, key string, n uint64) []byte {
	return append(strconv.AppendUint(append(b, key...), n, 10), '\n')
}

// appendConfig writes c as the lines of a set operation, for the client.
func appendConfig(b []byte, c *transport.Config) []byte {
	if c.PrivateKey != nil {
		b = appendText(b, "private_key=", c.PrivateKey.Hex())
	}
	if c.ListenPort != nil {
		b = appendNumber(b, "listen_port=", uint64(*c.ListenPort))
	}
	if c.ListenTCP != nil {
		b = appendNumber(b, "listen_tcp=", uint64(*c.ListenTCP))
	}
	if c.FwMark != nil {
		b = appendNumber(b, "fwmark=", uint64(*c.FwMark))
	}
	if c.TrustedChecksums != nil {
		b = appendText(b, "trusted_checksums=", strconv.FormatBool(*c.TrustedChecksums))
	}
	b = appendEthernetConfig(b, c)
	if c.ReplacePeers {
		b = append(b, "replace_peers=true\n"...)
	}
	for i := range c.Peers {
		p := &c.Peers[i]
		b = appendText(b, "public_key=", p.PublicKey.Hex())
		if p.Remove {
			b = append(b, "remove=true\n"...)
			continue
		}
		if p.UpdateOnly {
			b = append(b, "update_only=true\n"...)
		}
		if p.Name != nil {
			b = appendText(b, "name=", escapeName(*p.Name))
		}
		if p.PresharedKey != nil {
			b = appendText(b, "preshared_key=", p.PresharedKey.Hex())
		}
		if p.Endpoint != nil {
			b = appendText(b, "endpoint=", p.Endpoint.String())
		}
		b = appendCarrierConfig(b, p)
		if p.PersistentKeepalive != nil {
			b = appendNumber(b, "persistent_keepalive_interval=", uint64(max(*p.PersistentKeepalive, 0)/time.Second))
		}
		if p.Extensions != nil {
			b = appendText(b, "extensions=", p.Extensions.String())
		}
		if p.MACs != nil {
			b = appendMACs(b, *p.MACs)
		}
		if p.ReplaceAllowedIPs {
			b = append(b, "replace_allowed_ips=true\n"...)
		}
		for _, a := range p.AllowedIPs {
			b = append(b, "allowed_ip="...)
			if a.Remove {
				b = append(b, '-')
			}
			b = append(a.Prefix.AppendTo(b), '\n')
		}
	}
	return b
}
