package interop

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// told is what wgctrl reads of an interface, as text.
func told(t *testing.T, r *rig, s side) string {
	t.Helper()
	d, err := r.control.Device(s.name)
	if err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %v private %v public %v port %d mark %#x\n", d.Name, d.Type, d.PrivateKey, d.PublicKey, d.ListenPort, d.FirewallMark)
	var peers []string
	for _, p := range d.Peers {
		var allowed []string
		for _, a := range p.AllowedIPs {
			allowed = append(allowed, a.String())
		}
		slices.Sort(allowed)
		peers = append(peers, fmt.Sprintf("peer %v psk %v endpoint %v keepalive %v handshake %v rx %d tx %d version %d allowed %v",
			p.PublicKey, p.PresharedKey, p.Endpoint, p.PersistentKeepaliveInterval, p.LastHandshakeTime.UnixNano(),
			p.ReceiveBytes, p.TransmitBytes, p.ProtocolVersion, allowed))
	}
	slices.Sort(peers)
	return s.common(b.String() + strings.Join(peers, "\n"))
}

func pointer[T any](v T) *T { return &v }

func ipNet(t *testing.T, cidr string) net.IPNet {
	t.Helper()
	_, n, err := net.ParseCIDR(cidr)
	if err != nil {
		t.Fatal(err)
	}
	return *n
}

func newKey(t *testing.T) wgtypes.Key {
	t.Helper()
	k, err := wgtypes.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Each step goes to both interfaces, and afterwards both must tell the same.
func TestWgctrlConfiguresAndReadsAsItDoesWireGuardGo(t *testing.T) {
	besideEachReference(t, func(t *testing.T, r *rig) {
		private, psk := newKey(t), newKey(t)
		a, b, c := newKey(t).PublicKey(), newKey(t).PublicKey(), newKey(t).PublicKey()
		future := newKey(t)
		v4 := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 7).To4(), Port: 7777}
		v6 := &net.UDPAddr{IP: net.ParseIP("2001:db8::7"), Port: 7776}
		peers := func(p ...wgtypes.PeerConfig) wgtypes.Config { return wgtypes.Config{Peers: p} }

		for _, step := range []struct {
			what   string
			config wgtypes.Config
		}{
			{"nothing at all", wgtypes.Config{}},
			{"a private key and a mark", wgtypes.Config{PrivateKey: &private, FirewallMark: pointer(0xcafe)}},
			{"two peers", peers(
				wgtypes.PeerConfig{PublicKey: a, PresharedKey: &psk, Endpoint: v4, PersistentKeepaliveInterval: pointer(25 * time.Second),
					AllowedIPs: []net.IPNet{ipNet(t, "10.0.0.0/24"), ipNet(t, "fd00::/64")}},
				wgtypes.PeerConfig{PublicKey: b, Endpoint: v6, AllowedIPs: []net.IPNet{ipNet(t, "0.0.0.0/0"), ipNet(t, "::/0")}})},
			{"an allowed IP more", peers(wgtypes.PeerConfig{PublicKey: a, AllowedIPs: []net.IPNet{ipNet(t, "10.0.1.0/24")}})},
			{"an allowed IP that moves", peers(wgtypes.PeerConfig{PublicKey: b, AllowedIPs: []net.IPNet{ipNet(t, "10.0.0.0/24")}})},
			{"the same allowed IP again", peers(wgtypes.PeerConfig{PublicKey: b, AllowedIPs: []net.IPNet{ipNet(t, "10.0.0.0/24")}})},
			{"allowed IPs replaced", peers(wgtypes.PeerConfig{PublicKey: a, ReplaceAllowedIPs: true,
				AllowedIPs: []net.IPNet{ipNet(t, "10.9.0.0/16"), ipNet(t, "10.9.8.7/32")}})},
			{"allowed IPs replaced by none", peers(wgtypes.PeerConfig{PublicKey: a, ReplaceAllowedIPs: true})},
			{"another endpoint", peers(wgtypes.PeerConfig{PublicKey: a, Endpoint: v6})},
			{"no keepalive", peers(wgtypes.PeerConfig{PublicKey: a, PersistentKeepaliveInterval: pointer(time.Duration(0))})},
			{"the longest keepalive", peers(wgtypes.PeerConfig{PublicKey: a, PersistentKeepaliveInterval: pointer(65535 * time.Second)})},
			{"no PSK", peers(wgtypes.PeerConfig{PublicKey: a, PresharedKey: &wgtypes.Key{}})},
			{"an update of a peer that is not there", peers(wgtypes.PeerConfig{PublicKey: c, UpdateOnly: true,
				AllowedIPs: []net.IPNet{ipNet(t, "10.0.5.0/24")}})},
			{"an update of one that is", peers(wgtypes.PeerConfig{PublicKey: b, UpdateOnly: true,
				AllowedIPs: []net.IPNet{ipNet(t, "10.0.5.0/24")}})},
			{"our own key as a peer", peers(wgtypes.PeerConfig{PublicKey: private.PublicKey(),
				AllowedIPs: []net.IPNet{ipNet(t, "10.0.6.0/24")}})},
			{"the removal of a peer that is not there", peers(wgtypes.PeerConfig{PublicKey: c, Remove: true})},
			{"a peer with nothing", peers(wgtypes.PeerConfig{PublicKey: future.PublicKey()})},
			{"a private key that is that of a peer", wgtypes.Config{PrivateKey: &future}},
			{"the removal of a peer", peers(wgtypes.PeerConfig{PublicKey: a, Remove: true})},
			{"one removed and added at once", peers(wgtypes.PeerConfig{PublicKey: b, Remove: true},
				wgtypes.PeerConfig{PublicKey: b, AllowedIPs: []net.IPNet{ipNet(t, "10.0.7.0/24")}})},
			{"no mark", wgtypes.Config{FirewallMark: pointer(0)}},
			{"other peers in the place of all", wgtypes.Config{ReplacePeers: true, Peers: []wgtypes.PeerConfig{
				{PublicKey: c, PresharedKey: &psk}, {PublicKey: a, Endpoint: v4}}}},
			{"no private key", wgtypes.Config{PrivateKey: &wgtypes.Key{}}},
			{"a private key once more", wgtypes.Config{PrivateKey: &private}},
			{"no peers", wgtypes.Config{ReplacePeers: true}},
		} {
			for _, s := range r.sides() {
				config := step.config
				config.ListenPort = &s.port
				if err := r.control.ConfigureDevice(s.name, config); err != nil {
					t.Errorf("%s: %s: %v", step.what, s.name, err)
				}
			}
			mustAgree(t, step.what, told(t, r, r.reference), told(t, r, r.ours))
		}
	})
}

func TestWgctrlListsOurInterface(t *testing.T) {
	besideEachReference(t, func(t *testing.T, r *rig) {
		devices, err := r.control.Devices()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range r.sides() {
			if !slices.ContainsFunc(devices, func(d *wgtypes.Device) bool { return d.Name == s.name }) {
				t.Errorf("%s is not among the %d listed", s.name, len(devices))
			}
		}
		if _, err := r.control.Device("nobody"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("an interface that is not there: %v", err)
		}
	})
}

// Thousands of allowed IPs and many peers: what one read does not take.
func TestWgctrlReadsLargeConfigurations(t *testing.T) {
	besideEachReference(t, func(t *testing.T, r *rig) {
		var peers []wgtypes.PeerConfig
		for i := range 200 {
			p := wgtypes.PeerConfig{PublicKey: newKey(t).PublicKey()}
			for j := range 50 {
				p.AllowedIPs = append(p.AllowedIPs, ipNet(t, fmt.Sprintf("10.%d.%d.0/24", i, j)), ipNet(t, fmt.Sprintf("fd00:%x:%x::/48", i, j)))
			}
			peers = append(peers, p)
		}
		for _, s := range r.sides() {
			if err := r.control.ConfigureDevice(s.name, wgtypes.Config{ListenPort: &s.port, Peers: peers}); err != nil {
				t.Fatal(err)
			}
		}
		mustAgree(t, "200 peers", told(t, r, r.reference), told(t, r, r.ours))
	})
}

// The port in use is told when one is asked for that is just free.
func TestAFreePortIsToldOnceItIsChosen(t *testing.T) {
	besideEachReference(t, func(t *testing.T, r *rig) {
		for _, s := range r.sides() {
			if err := r.control.ConfigureDevice(s.name, wgtypes.Config{ListenPort: pointer(0)}); err != nil {
				t.Fatal(err)
			}
			d, err := r.control.Device(s.name)
			if err != nil {
				t.Fatal(err)
			}
			if d.ListenPort == 0 {
				t.Errorf("%s tells of port 0", s.name)
			}
		}
	})
}

// The two interfaces are each other's peers, over the loopback: what is told of
// a session fits, and what has been told stays.
func TestASessionIsToldOf(t *testing.T) {
	besideEachReference(t, func(t *testing.T, r *rig) {
		keys := [2]wgtypes.Key{newKey(t), newKey(t)}
		for i, s := range r.sides() {
			other := r.sides()[1-i]
			config := wgtypes.Config{PrivateKey: &keys[i], ListenPort: &s.port, Peers: []wgtypes.PeerConfig{{
				PublicKey: keys[1-i].PublicKey(), Endpoint: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: other.port},
				AllowedIPs: []net.IPNet{ipNet(t, "10.0.0.0/24")},
			}}}
			if i == 1 {
				config.Peers[0].PersistentKeepaliveInterval = pointer(time.Second)
			}
			if err := r.control.ConfigureDevice(s.name, config); err != nil {
				t.Fatal(err)
			}
		}
		peer := func(s side) wgtypes.Peer {
			d, err := r.control.Device(s.name)
			if err != nil || len(d.Peers) != 1 {
				t.Fatalf("%s: %v", s.name, err)
			}
			return d.Peers[0]
		}
		deadline := time.Now().Add(10 * time.Second)
		for _, s := range r.sides() {
			for peer(s).LastHandshakeTime.IsZero() {
				if time.Now().After(deadline) {
					t.Fatalf("%s: no handshake; it tells\n%s", s.name, told(t, r, s))
				}
				time.Sleep(10 * time.Millisecond) // UAPI has no events
			}
		}
		ref, ours := peer(r.reference), peer(r.ours)
		if d := ref.LastHandshakeTime.Sub(ours.LastHandshakeTime).Abs(); d > time.Second {
			t.Errorf("the handshake was at %v and at %v", ref.LastHandshakeTime, ours.LastHandshakeTime)
		}
		if ours.ReceiveBytes < 92 || ours.TransmitBytes < 148+32 || ref.ReceiveBytes < 148+32 {
			t.Errorf("ours has received %d and sent %d bytes, the reference received %d", ours.ReceiveBytes, ours.TransmitBytes, ref.ReceiveBytes)
		}
		// What names a peer again but changes nothing leaves its session alone.
		if err := r.control.ConfigureDevice(r.ours.name, wgtypes.Config{Peers: []wgtypes.PeerConfig{{
			PublicKey: ours.PublicKey, UpdateOnly: true, AllowedIPs: ours.AllowedIPs, ReplaceAllowedIPs: true}}}); err != nil {
			t.Fatal(err)
		}
		if again := peer(r.ours); !again.LastHandshakeTime.Equal(ours.LastHandshakeTime) || again.TransmitBytes < ours.TransmitBytes {
			t.Errorf("an update has changed the handshake's time from %v to %v", ours.LastHandshakeTime, again.LastHandshakeTime)
		}
	})
}
