package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stunnel/test/lab"
)

// wgHosts are two hosts whose interfaces wg(8) configures, each made by the
// given program (wireguard-go or stunnel's drop-in).
func wgHosts(t *testing.T, programA, programB []string) (h *twoHosts, psk string) {
	t.Helper()
	for _, command := range []string{"wg", "wireguard-go"} {
		lab.Need(t, command)
	}
	h = newTwoHosts(t, outerA+":51820", outerB+":51820")
	psk = strings.TrimSpace(h.alpha.Run(binary, "genpsk"))
	pskFile := h.File("psk", psk)
	for _, end := range []struct {
		host         *lab.Host
		program      []string
		keys, peer   pair
		inner, other []string
		endpoint     string
	}{
		{h.alpha, programA, h.alphaKeys, h.betaKeys, []string{innerA + "/24", innerA6 + "/64"}, []string{innerB, innerB6}, outerB},
		{h.beta, programB, h.betaKeys, h.alphaKeys, []string{innerB + "/24", innerB6 + "/64"}, []string{innerA, innerA6}, outerA},
	} {
		end.host.Run(append(end.program, "wg0")...) // returns when interface and socket are ready
		end.host.Run("wg", "set", "wg0", "listen-port", "51820", "private-key", h.File(end.host.Name+".key", end.keys.private),
			"peer", end.peer.public, "preshared-key", pskFile, "endpoint", end.endpoint+":51820",
			"allowed-ips", end.other[0]+"/32,"+end.other[1]+"/128")
		for _, address := range end.inner {
			end.host.Address(address, "wg0")
		}
		end.host.Run("ip", "link", "set", "wg0", "mtu", "1420", "up")
	}
	return h, psk
}

func TestWireGuardAtTheOtherEnd(t *testing.T) {
	drop, wireguard := []string{binary, "userspace"}, []string{"wireguard-go"}
	for _, c := range []struct {
		name               string
		programA, programB []string
	}{
		{"stunnel and wireguard-go", drop, wireguard},
		{"wireguard-go and stunnel", wireguard, drop},
		{"stunnel and stunnel", drop, drop},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, _ := wgHosts(t, c.programA, c.programB)
			ping(t, h.alpha, innerB, 3)
			ping(t, h.beta, innerA6, 3)
			transfer(t, h.alpha, h.beta, innerB+":7000", 32<<20)
			transfer(t, h.beta, h.alpha, "["+innerA6+"]:7000", 32<<20)
			for _, host := range []*lab.Host{h.alpha, h.beta} {
				if out := host.Run("wg", "show", "wg0"); !strings.Contains(out, "latest handshake") || !strings.Contains(out, "preshared key") {
					t.Errorf("%s: wg show prints\n%s", host.Name, out)
				}
				// Our show reads either program.
				if peer := show(t, host, "wg0").Interfaces[0].Peers[0]; peer.LatestHandshake == "" || peer.RxBytes < 32<<20 {
					t.Errorf("%s: stunnel show tells %+v", host.Name, peer)
				}
			}
		})
	}
}

func TestForeignProgramIsNotTakenDown(t *testing.T) {
	h, _ := wgHosts(t, []string{binary, "userspace"}, []string{"wireguard-go"})
	if out, err := h.beta.Try(binary, "down", "wg0"); err == nil {
		t.Errorf("down of wireguard-go's interface: exit status 0\n%s", out)
	}
	ping(t, h.alpha, innerB, 1)
}

func TestDropInIsConfiguredByWgSyncconf(t *testing.T) {
	h, psk := wgHosts(t, []string{binary, "userspace"}, []string{binary, "userspace"})
	ping(t, h.alpha, innerB, 1)
	before := h.alpha.Run("wg", "show", "wg0", "latest-handshakes")
	conf := h.alpha.Run("wg", "showconf", "wg0")
	if !strings.Contains(conf, h.alphaKeys.private) || !strings.Contains(conf, psk) {
		t.Fatalf("wg showconf prints\n%s", conf)
	}
	extra := newPair(t)
	h.alpha.Run("wg", "syncconf", "wg0", h.File("sync.conf", conf+"\n[Peer]\nPublicKey = "+extra.public+"\nAllowedIPs = 10.44.0.0/16\n"))
	if out := h.alpha.Run("wg", "show", "wg0", "allowed-ips"); !strings.Contains(out, extra.public+"\t10.44.0.0/16") {
		t.Errorf("the peer that syncconf added is not there:\n%s", out)
	}
	if after := h.alpha.Run("wg", "show", "wg0", "latest-handshakes"); !strings.Contains(after, strings.TrimSpace(before)) {
		t.Errorf("syncconf has touched a session: %q before, %q after", before, after)
	}
	h.alpha.Run("wg", "syncconf", "wg0", h.File("sync.conf", conf))
	if out := h.alpha.Run("wg", "show", "wg0", "peers"); strings.Contains(out, extra.public) {
		t.Errorf("the peer that syncconf removed is still there:\n%s", out)
	}
	ping(t, h.alpha, innerB, 1)
}

func TestDropInEndsWithItsSocketOrItsInterface(t *testing.T) {
	for _, c := range []struct {
		what string
		end  []string
	}{
		{"socket file", []string{"rm", "/var/run/wireguard/wg0.sock"}},
		{"interface", []string{"ip", "link", "del", "wg0"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			l := lab.New(t)
			host := l.Host("host")
			p := host.Start(binary, "userspace", "--foreground", "wg0")
			awaitFile(t, host, "/var/run/wireguard/wg0.sock")
			host.Run(c.end...)
			if status := p.Wait(); status != 0 {
				t.Errorf("exit status %d, want 0:\n%s", status, p.Output())
			}
			if out, err := host.Try("ip", "link", "show", "wg0"); err == nil {
				t.Errorf("the interface is still there: %s", out)
			}
			if out, err := host.Try("ls", "/var/run/wireguard/wg0.sock"); err == nil {
				t.Errorf("the socket is still there: %s", out)
			}
		})
	}
}

// awaitFile waits for a file on a host by asking; there is no event for it
// across mount namespaces.
func awaitFile(t *testing.T, h *lab.Host, path string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, err := h.Try("ls", path); err == nil {
			return
		}
	}
	t.Fatalf("%s: no %s after 10 s", h.Name, path)
}

func TestDropInThroughALinkNamedWireguardGo(t *testing.T) {
	l := lab.New(t)
	lab.Need(t, "wg")
	host := l.Host("host")
	link := filepath.Join(l.Dir, "my-wireguard-go")
	if err := os.Symlink(binary, link); err != nil {
		t.Fatal(err)
	}
	host.Run(link, "wg0")
	host.Run("wg", "set", "wg0", "listen-port", "4242")
	if out := host.Run("wg", "show", "wg0", "listen-port"); out != "4242" {
		t.Errorf("listen-port is %q, want 4242", out)
	}
}

func TestInterfaceMovedToAnotherNamespaceWorksOn(t *testing.T) {
	lab.Need(t, "wg")
	h := newTwoHosts(t, outerA+":51820", outerB+":51820")
	inside := h.Host("inside")
	up(h.beta, h.conf)
	h.alpha.Run(binary, "userspace", "wg0")
	h.alpha.Run("ip", "link", "set", "wg0", "netns", fmt.Sprint(inside.Init())) // in the next instant
	h.alpha.Run("wg", "set", "wg0", "private-key", h.File("a.key", h.alphaKeys.private), "listen-port", "51820",
		"peer", h.betaKeys.public, "endpoint", outerB+":51820", "allowed-ips", innerB+"/32")
	inside.Address(innerA+"/24", "wg0")
	inside.Run("ip", "link", "set", "wg0", "mtu", "1420", "up")
	ping(t, inside, innerB, 3)
	inside.Run("ip", "link", "set", "wg0", "down")
	inside.Run("ip", "link", "set", "wg0", "up")
	ping(t, inside, innerB, 3)
}

func TestWgQuickUsesTheDropIn(t *testing.T) {
	t.Parallel()
	lab.Need(t, "wg-quick")
	if _, err := os.Stat("/sys/module/wireguard"); err == nil {
		t.Skip("this kernel has WireGuard, so wg-quick does not look for a program")
	}
	h := newTwoHosts(t, outerA+":51820", outerB+":51820")
	link := filepath.Join(h.Dir, "stunnel-wireguard-go")
	if err := os.Symlink(binary, link); err != nil {
		t.Fatal(err)
	}
	up(h.beta, h.conf)
	text, err := os.ReadFile(h.alphaConf)
	if err != nil {
		t.Fatal(err)
	}
	before := state(h.alpha)
	// Name is a key of ours; all else in the file is wg-quick's.
	conf := h.File("quick/tun0.conf", strings.Replace(string(text), "Name = beta\n", "", 1))
	h.alpha.Run("env", "WG_QUICK_USERSPACE_IMPLEMENTATION="+link, "wg-quick", "up", conf)
	ping(t, h.alpha, innerB, 3)
	h.alpha.Run("wg-quick", "down", conf)
	awaitGone(t, h.alpha, before)
}
