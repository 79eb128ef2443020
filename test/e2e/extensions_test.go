package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"stunnel/test/lab"
)

// software is what a stunnel tells others of itself.
func software(t *testing.T, h *lab.Host) string {
	t.Helper()
	first, _, _ := strings.Cut(h.Run(binary, "version"), "\n")
	return first
}

// withPeerKeys adds lines to the [Peer] of a file, its last section.
func withPeerKeys(t *testing.T, l *lab.Lab, path, lines string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return l.File(strings.TrimPrefix(path, l.Dir+"/"), string(text)+lines)
}

func TestTwoStunnelsTellOfEachOther(t *testing.T) {
	for _, policy := range []string{"auto", "required"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			h := newTwoHosts(t, outerA+":51820", outerB+":51820")
			a := up(h.alpha, withPeerKeys(t, h.Lab, h.alphaConf, "Extensions = "+policy+"\n"))
			b := up(h.beta, withPeerKeys(t, h.Lab, h.conf, "Extensions = "+policy+"\n"))
			introduce(t, h, a, b)
			want := software(t, h.alpha)
			for _, host := range []*lab.Host{h.alpha, h.beta} {
				// An echo goes out a moment after the first packet, and while there are others.
				p := awaitPeer(t, host, "measured", func(p shownPeer) bool {
					ping(t, host, map[*lab.Host]string{h.alpha: innerB, h.beta: innerA}[host], 1)
					return p.RoundTrip != nil
				})
				if p.Extensions != policy || p.Software != want || !slices.Equal(p.Announced, []string{"echo", "fragments", "probes", "trusted_checksums"}) ||
					p.Refused != "" || p.Downgrades != 0 || p.Goodbye != nil {
					t.Errorf("%s: show --json tells %+v", host.Name, p)
				}
				if *p.RoundTrip <= 0 || *p.RoundTrip > 1 || p.EchoesSent < 1 || p.EchoesLost > 0 {
					t.Errorf("%s: a round trip takes %v s, %d of %d echoes are lost", host.Name, *p.RoundTrip, p.EchoesLost, p.EchoesSent)
				}
				out := host.Run(binary, "show", "tun0")
				for _, line := range []string{"speaks: *" + want + " (echo, fragments, probes, trusted checksums)", "round trip: *" + "[0-9.]* ms, 0 of [0-9]* echoes lost in the last minute"} {
					host.Input(out, "grep", line)
				}
			}
			mustBeSound(t, h.alpha, h.beta)
		})
	}
}

func TestExtensionsThatAreOffMakeAPlainWireGuard(t *testing.T) {
	t.Parallel()
	h := newTwoHosts(t, outerA+":51820", outerB+":51820")
	a := up(h.alpha, h.alphaConf)
	up(h.beta, withPeerKeys(t, h.Lab, h.conf, "Extensions = off\n"))
	ping(t, h.alpha, innerB, 3)
	transfer(t, h.alpha, h.beta, innerB+":7000", 4<<20)
	p := awaitPeer(t, h.alpha, "known", func(p shownPeer) bool { return p.Software != "" })
	if p.Software != "wireguard" || len(p.Announced) > 0 || p.Downgrades > 0 {
		t.Errorf("alpha: show --json tells %+v", p)
	}
	if p := showPeer(t, h.beta); p.Software != "" || p.Extensions != "off" {
		t.Errorf("beta: show --json tells %+v", p)
	}
	if out := h.beta.Run(binary, "show", "tun0"); !strings.Contains(out, "extensions are off") {
		t.Errorf("beta: show prints\n%s", out)
	}
	transfer(t, h.beta, h.alpha, innerA+":7000", 4<<20) // what there is now is plain
	if strings.Contains(a.Output(), "extensions") {
		t.Errorf("alpha says of a plain peer:\n%s", a.Output())
	}
}

// besideWireGuardGo runs `stunnel up` with lines for its [Peer] on alpha, and
// wireguard-go on beta.
func besideWireGuardGo(t *testing.T, lines string) (h *twoHosts, a *lab.Process) {
	t.Helper()
	for _, command := range []string{"wg", "wireguard-go"} {
		lab.Need(t, command)
	}
	h = newTwoHosts(t, outerA+":51820", outerB+":51820")
	h.beta.Run("wireguard-go", "tun0")
	h.beta.Run("wg", "set", "tun0", "listen-port", "51820", "private-key", h.File("beta.key", h.betaKeys.private),
		"peer", h.alphaKeys.public, "endpoint", outerA+":51820", "allowed-ips", innerA+"/32,"+innerA6+"/128")
	h.beta.Address(innerB+"/24", "tun0")
	h.beta.Address(innerB6+"/64", "tun0")
	h.beta.Run("ip", "link", "set", "tun0", "mtu", "1420", "up")
	return h, up(h.alpha, withPeerKeys(t, h.Lab, h.alphaConf, lines))
}

func TestWireGuardGoIsToldApartAndServed(t *testing.T) {
	t.Parallel()
	h, _ := besideWireGuardGo(t, "")
	ping(t, h.alpha, innerB, 1)
	end := beginWatch(t, h.beta, "tun0")
	everyContent(t, h)
	if w := end(); len(w.Wrong) > 0 || w.Lone > 0 {
		t.Errorf("beta was given %+v", w)
	}
	p := awaitPeer(t, h.alpha, "known", func(p shownPeer) bool { return p.Software != "" })
	if p.Software != "wireguard" || len(p.Announced) > 0 || p.EchoesSent > 0 {
		t.Errorf("show --json tells %+v", p)
	}
	h.alpha.Input(h.alpha.Run(binary, "show", "tun0"), "grep", "speaks: *wireguard$")
	transfer(t, h.alpha, h.beta, innerB+":7000", 4<<20) // as before
	mustBeSound(t, h.alpha)
	if wrong := counters(h.beta, "InCsumErrors"); len(wrong) > 0 {
		t.Errorf("beta has met wrong checksums: %v", wrong)
	}
}

func TestNothingPassesToWireGuardGoWhereExtensionsAreRequired(t *testing.T) {
	t.Parallel()
	h, a := besideWireGuardGo(t, "Extensions = required\n")
	out := h.alpha.Start("ping", "-n", "-i", "0.2", innerB)
	in := h.beta.Start("ping", "-n", "-i", "0.2", innerA)
	a.Await("Extensions = required")
	if !strings.Contains(a.Output(), "no packet goes or comes peer=beta") {
		t.Errorf("the log says\n%s", a.Output())
	}
	p := awaitPeer(t, h.alpha, "plain, with packets dropped", func(p shownPeer) bool { return p.DroppedPackets["before_hello"] > 0 })
	if p.Software != "wireguard" || p.Extensions != "required" || p.LatestHandshake == "" {
		t.Errorf("show --json tells %+v", p)
	}
	h.alpha.Input(h.alpha.Run(binary, "show", "tun0"), "grep", "speaks: *wireguard; extensions are required, so that no packet goes or comes")
	for _, ping := range []*lab.Process{out, in} {
		ping.Signal(os.Interrupt)
		ping.Wait()
		if !strings.Contains(ping.Output(), " 0 received") {
			t.Errorf("a packet has passed:\n%s", ping.Output())
		}
	}
}

func TestDownIsKnownAtOnceAtTheOtherEnd(t *testing.T) {
	t.Parallel()
	h := newTwoHosts(t, outerA+":51820", outerB+":51820")
	b := up(h.beta, h.conf)
	for i, first := range []struct {
		from   *lab.Host
		to     string
		within string // seconds
	}{
		{h.alpha, innerB, "3"}, // less than a second attempt takes
		// beta knows that it has no session left, or else it would try the old one for 15 s. It
		// begins a new one 5 s after the last handshake, as WireGuard's limit has it.
		{h.beta, innerA, "8"},
		{h.alpha, innerB, "3"},
	} {
		h.alpha.Run(binary, "up", "--detach", h.alphaConf)
		if out, err := first.from.Try("ping", "-n", "-c", "1", "-W", first.within, first.to); err != nil {
			t.Fatalf("start %d: %v\n%s", i, err, out)
		}
		awaitPeer(t, h.beta, "introduced", func(p shownPeer) bool { return p.Software != "" && p.Goodbye == nil && len(p.Announced) > 0 })
		awaitPeer(t, h.alpha, "introduced", func(p shownPeer) bool { return len(p.Announced) > 0 })
		h.alpha.Run(binary, "down", "tun0")
		awaitPeer(t, h.beta, "gone", func(p shownPeer) bool { return p.Goodbye != nil })
		h.beta.Input(h.beta.Run(binary, "show", "tun0"), "grep", "state: *went down now")
	}
	if n := strings.Count(b.Output(), fmt.Sprintf("the peer says that it goes down peer=%s", "alpha")); n != 3 {
		t.Errorf("beta logs %d goodbyes of 3:\n%s", n, b.Output())
	}
	if p := showPeer(t, h.beta); p.Downgrades > 0 {
		t.Errorf("beta counts %d downgrades", p.Downgrades)
	}
}
