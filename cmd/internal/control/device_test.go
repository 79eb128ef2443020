package control

import (
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/transport"
)

// fakeDevice is a Device that carries no packets but keeps what it is told, as a tunnel does.
type fakeDevice struct {
	mu      sync.Mutex
	status  transport.Status
	applied []transport.Config
	refuse  error
}

func (d *fakeDevice) Status() transport.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.status
	s.Peers = slices.Clone(s.Peers)
	return s
}

func (d *fakeDevice) configs() []transport.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.applied)
}

func (d *fakeDevice) Configure(c transport.Config) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuse != nil {
		return d.refuse
	}
	d.applied = append(d.applied, c)
	s := &d.status
	if c.PrivateKey != nil {
		s.PrivateKey, s.PublicKey = *c.PrivateKey, crypto.PublicKey{}
		if !c.PrivateKey.IsZero() {
			s.PublicKey = c.PrivateKey.Public()
		}
	}
	if c.ListenPort != nil {
		s.ListenPort = *c.ListenPort
	}
	if c.FwMark != nil {
		s.FwMark = *c.FwMark
	}
	if c.TrustedChecksums != nil {
		s.TrustedChecksums = *c.TrustedChecksums
	}
	if c.ReplacePeers {
		s.Peers = nil
	}
	at := make(map[crypto.PublicKey]int, len(s.Peers))
	for i, p := range s.Peers {
		at[p.PublicKey] = i
	}
	for _, p := range c.Peers {
		i, ok := at[p.PublicKey]
		switch {
		case p.Remove && ok:
			s.Peers = slices.Delete(s.Peers, i, i+1)
			for k, j := range at {
				if j > i {
					at[k] = j - 1
				}
			}
			delete(at, p.PublicKey)
			continue
		case p.Remove || !ok && p.UpdateOnly:
			continue
		case !ok:
			i = len(s.Peers)
			at[p.PublicKey] = i
			s.Peers = append(s.Peers, transport.PeerStatus{PublicKey: p.PublicKey})
		}
		change(&s.Peers[i], p)
	}
	return nil
}

func change(s *transport.PeerStatus, p transport.PeerConfig) {
	if p.Name != nil {
		s.Name = *p.Name
	}
	if p.PresharedKey != nil {
		s.PresharedKey = *p.PresharedKey
	}
	if p.Endpoint != nil {
		s.Endpoint = *p.Endpoint
	}
	if p.PersistentKeepalive != nil {
		s.PersistentKeepalive = *p.PersistentKeepalive
	}
	if p.Extensions != nil {
		s.Extensions = *p.Extensions
	}
	if p.ReplaceAllowedIPs {
		s.AllowedIPs = nil
	}
	for _, a := range p.AllowedIPs {
		s.AllowedIPs = slices.DeleteFunc(slices.Clone(s.AllowedIPs), func(q netip.Prefix) bool { return q == a.Prefix })
		if !a.Remove {
			s.AllowedIPs = append(s.AllowedIPs, a.Prefix)
		}
	}
}

// key returns the text of a key of which all bytes are b, as private key already clamped.
func privateKey(b byte) (k crypto.PrivateKey) {
	for i := range k {
		k[i] = b
	}
	k[0] &= 248
	k[31] = k[31]&127 | 64
	return k
}

func publicKey(b byte) (k crypto.PublicKey) {
	for i := range k {
		k[i] = b
	}
	return k
}

// fullStatus has every field that a get can tell.
func fullStatus() transport.Status {
	private := privateKey(1)
	return transport.Status{
		PrivateKey: private, PublicKey: private.Public(), ListenPort: 51820, FwMark: 0xca6c, Up: true, MTU: 1420,
		Lanes: 4,
		Offloads: []transport.Offload{
			{Name: "csum"}, {Name: "gso", Off: "100 % broken = EIO"}, {Name: "uso4", Off: "off, too"}},
		ListenTCP: 443, Streams: 7, Strangers: 1 << 40,
		TrustedChecksums: true,
		Drops:            map[string]uint64{"no_peer": 3, "malformed": 1},
		Peers: []transport.PeerStatus{
			{
				Name: "laptop = 100 % mine", PublicKey: publicKey(2), PresharedKey: crypto.PresharedKey(publicKey(3)),
				Endpoint: netip.MustParseAddrPort("192.0.2.7:4500"), LastHandshake: time.Unix(1700000000, 123456789),
				TxBytes: 1 << 40, RxBytes: 18446744073709551615, PersistentKeepalive: 25 * time.Second,
				AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/32"), netip.MustParsePrefix("fd00::/64")},
				Extensions: transport.ExtensionsRequired, Software: "stunnel 0.3.0", Announced: []string{"echo", "trusted_checksums"},
				Endpoints:    []netip.AddrPort{netip.MustParseAddrPort("192.0.2.7:4500"), netip.MustParseAddrPort("[fe80::1%a=b]:4500")},
				EndpointsTCP: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.7:443")}, Transport: transport.TransportAuto,
				Carrier: transport.TransportTCP, CarrierSince: time.Unix(1700000007, 5), CarrierWhy: "UDP = 100 % dead", PathMTU: 1280,
				UnansweredSince: time.Unix(1700000008, 6),
				Downgrades:      3, RoundTrip: 310 * time.Microsecond, EchoesSent: 20, EchoesLost: 1,
				Drops: map[string]uint64{"replayed": 2},
			},
			{
				PublicKey: publicKey(4), Endpoint: netip.MustParseAddrPort("[fe80::1%eth0]:51820"), LastHandshake: time.Unix(1700000000, 1),
				Extensions: transport.ExtensionsOff, Software: "stunnel 9", Refused: "critical = 0x10000", Goodbye: time.Unix(1700000005, 0),
			},
			{PublicKey: publicKey(5)},
		},
	}
}

// socketDir is a directory whose name is short enough for a socket's.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "uapi")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
