package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"stunnel/test/lab"
)

// resolving is twoHosts where beta, the far end, has a name server in the tunnel
// and, as an Internet provider, one outside. alpha has an /etc of its own and
// names beta in its configuration.
type resolving struct {
	*twoHosts
	inside, outside *lab.Process // the name servers
}

const (
	provider = "nameserver " + outerB + "\nsearch isp.example\noptions timeout:1 attempts:1\n"
	remote   = "vpn.example.net"
)

func newResolving(t *testing.T, keys string) *resolving {
	t.Helper()
	r := &resolving{twoHosts: newTwoHosts(t, "", remote+":51820")}
	r.alpha.Etc()
	r.resolvConf(provider)
	up(r.beta, r.conf)
	r.inside = r.beta.Start(tool("tool-dns", innerB, "www.corp.example=10.9.0.80", "www.lan.example=10.9.0.81")...)
	r.outside = r.beta.Start(tool("tool-dns", outerB, remote+"="+outerB, "www.corp.example=192.0.2.66", "www.isp.example=192.0.2.67")...)
	r.inside.Await("serving")
	r.outside.Await("serving")
	r.alphaConf = r.File("alpha/tun0.conf", strings.Replace(r.text(t), "ListenPort = 51820\n", "ListenPort = 51820\n"+keys, 1))
	return r
}

func (r *resolving) text(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(r.alphaConf)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// resolvConf makes alpha's resolv.conf a file with that text.
func (r *resolving) resolvConf(text string) {
	r.alpha.Run("sh", "-c", "rm -f /etc/resolv.conf && printf %s \"$1\" > /etc/resolv.conf && chmod 640 /etc/resolv.conf", "sh", text)
}

// resolved is everything on alpha that has to do with resolv.conf, byte for byte.
func (r *resolving) resolved() string {
	return r.alpha.Run("sh", "-c", "stat -c '%n %a %u %g %F' /etc/resolv.conf; od -c /etc/resolv.conf; ls -A /etc | grep -i resolv; find /var/lib/stunnel -name 'resolv*' 2>/dev/null; true")
}

func (r *resolving) same(t *testing.T, before string) {
	t.Helper()
	if after := r.resolved(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// finds looks a name up as programs do.
func (r *resolving) finds(t *testing.T, name, want string) {
	t.Helper()
	out, err := r.alpha.Try("getent", "ahostsv4", name)
	if !strings.HasPrefix(out, want+" ") {
		t.Errorf("%s: %q, %v, want %s\nresolv.conf: %s", name, out, err, want, r.alpha.Run("cat", "/etc/resolv.conf"))
	}
}

func TestNamesAreAskedThroughTheTunnelAndNowhereElse(t *testing.T) {
	t.Parallel()
	r := newResolving(t, "DNS = "+innerB+", lan.example\n")
	lab.Need(t, "tcpdump")
	before := r.resolved()
	r.finds(t, "www.isp.example", "192.0.2.67")

	p := up(r.alpha, r.alphaConf)
	if !strings.Contains(p.Output(), "name servers "+innerB) || !strings.Contains(p.Output(), "/etc/resolv.conf") {
		t.Errorf("up said %s", p.Output())
	}
	watch := r.beta.Start("tcpdump", "-n", "-l", "-i", "eth0", "port 53")
	watch.Await("listening on")
	asked := r.outside.Output()
	r.finds(t, "www.corp.example", "10.9.0.80")
	r.finds(t, "www", "10.9.0.81") // by the search domain
	ping(t, r.alpha, innerB, 1)
	if out := watch.Output(); strings.Contains(out, "192.0.2.1") {
		t.Errorf("look-ups left beside the tunnel:\n%s", out)
	}
	if r.outside.Output() != asked {
		t.Errorf("the name server outside: %s", r.outside.Output())
	}
	p.Stop()
	r.same(t, before)
	r.finds(t, "www.corp.example", "192.0.2.66")
}

func TestTheWayToAnEndpointIsAskedOutsideWithTheMark(t *testing.T) {
	t.Parallel()
	r := newResolving(t, "FwMark = 0x77\nDNS = "+innerB+"\n")
	// Whatever has no mark asks in vain.
	r.alpha.Run("ip", "rule", "add", "pref", "9", "fwmark", "0x77", "lookup", "main")
	r.alpha.Run("ip", "rule", "add", "pref", "10", "ipproto", "udp", "dport", "53", "to", outerB, "prohibit")
	p := up(r.alpha, r.alphaConf)
	ping(t, r.alpha, innerB, 1)
	r.finds(t, "www.corp.example", "10.9.0.80")
	p.Stop()

	// A second tunnel finds its way past the first one's name server.
	p = up(r.alpha, r.alphaConf)
	second := r.File("alpha/tun1.conf", fmt.Sprintf("[Interface]\nPrivateKey = %s\nFwMark = 0x77\nDNS = 10.8.0.1\n[Peer]\nPublicKey = %s\nEndpoint = %s:4\nAllowedIPs = 10.8.0.0/24\n",
		newPair(t).private, newPair(t).public, remote))
	q := up(r.alpha, second)
	if out := r.inside.Output(); strings.Contains(out, remote) {
		t.Errorf("the tunnel's name server was asked for an endpoint: %s", out)
	}
	q.Stop()
	p.Stop()
}

func TestHostsFileComesFirstForEndpoints(t *testing.T) {
	t.Parallel()
	r := newResolving(t, "")
	r.alpha.Run("sh", "-c", "echo '"+outerB+" vpn.hosts.example' >> /etc/hosts")
	path := r.File("alpha/tun0.conf", strings.Replace(r.text(t), remote, "vpn.hosts.example", 1))
	up(r.alpha, path)
	ping(t, r.alpha, innerB, 1)
	if out := r.outside.Output(); strings.Contains(out, "hosts.example") {
		t.Errorf("the name server was asked: %s", out)
	}
}

func TestAnEndpointThatCannotBeResolvedIsWhereItWasLast(t *testing.T) {
	t.Parallel()
	r := newResolving(t, "")
	up(r.alpha, r.alphaConf).Stop()
	other := r.File("other/tun0.conf", strings.Replace(r.text(t), remote, "other.example.net", 1))
	p := r.alpha.Start(binary, "up", other) // of which the server says that there is none
	if status := p.Wait(); status != 1 || !strings.Contains(p.Output(), "other.example.net") {
		t.Errorf("exit status %d: %s", status, p.Output())
	}
	r.outside.Kill()
	p = r.alpha.Start(binary, "up", r.alphaConf)
	p.Await(upSaid)
	if out := p.Output(); !strings.Contains(out, "can't be resolved") || !strings.Contains(out, "address="+outerB) {
		t.Errorf("up said %s", out)
	}
	ping(t, r.alpha, innerB, 1)
	p.Stop()
}

func TestATunnelComesUpWithoutANameServerAndFindsItsPeerLater(t *testing.T) {
	t.Parallel()
	r := newResolving(t, "")
	r.outside.Kill()
	p := up(r.alpha, r.alphaConf)
	p.Await("it is asked for again and again")
	if _, err := r.alpha.Try("ping", "-c", "1", "-W", "1", innerB); err == nil {
		t.Error("it has found its peer without a name server")
	}
	r.outside = r.beta.Start(tool("tool-dns", outerB, remote+"="+outerB)...)
	r.outside.Await("asked " + remote)
	ping(t, r.alpha, innerB, 1)
	p.Stop()
}

func TestAKilledTunnelLeavesTheNameServersToTheNextDownOrUp(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"down", "up"} {
		t.Run(how, func(t *testing.T) {
			r := newResolving(t, "DNS = "+innerB+"\n")
			before := r.resolved()
			p := up(r.alpha, r.alphaConf)
			p.Kill()
			if how == "down" {
				r.alpha.Run(binary, "down", "tun0")
			} else {
				q := up(r.alpha, r.alphaConf) // which had to ask the provider for its endpoint
				r.finds(t, "www.corp.example", "10.9.0.80")
				q.Stop()
			}
			r.same(t, before)
			r.finds(t, "www.corp.example", "192.0.2.66")
		})
	}
}

func TestAfterABootTheNextTunnelBringsTheNameServersBack(t *testing.T) {
	t.Parallel()
	r := newResolving(t, "DNS = "+innerB+"\n")
	before := r.resolved()
	up(r.alpha, r.alphaConf).Kill()
	// As after a power cut: /run is empty, and the boot is another.
	r.alpha.Run("sh", "-c", "find /run -mindepth 1 -delete; echo 01234567-89ab-cdef-0123-456789abcdef > /var/lib/boot_id && mount --bind /var/lib/boot_id /proc/sys/kernel/random/boot_id")
	out, err := r.alpha.Try(binary, "down", "tun0")
	if !strings.Contains(out, "/etc/resolv.conf") {
		t.Errorf("down said %q, %v", out, err)
	}
	r.same(t, before)
}

func TestTwoTunnelsShareResolvConfInAnyOrder(t *testing.T) {
	t.Parallel()
	r := newResolving(t, "DNS = "+innerB+"\n")
	before := r.resolved()
	second := r.File("alpha/tun1.conf", fmt.Sprintf("[Interface]\nPrivateKey = %s\nDNS = 10.8.0.1\n", newPair(t).private))
	for _, first := range []int{0, 1} {
		tunnels := []*lab.Process{up(r.alpha, r.alphaConf), up(r.alpha, second)}
		if text := r.alpha.Run("cat", "/etc/resolv.conf"); !strings.Contains(text, "nameserver 10.8.0.1") || strings.Contains(text, innerB) {
			t.Errorf("with both: %s", text)
		}
		tunnels[first].Stop()
		left := []string{"10.8.0.1", innerB}[first]
		if text := r.alpha.Run("cat", "/etc/resolv.conf"); !strings.Contains(text, "nameserver "+left+"\n") && !strings.HasSuffix(text, left) {
			t.Errorf("without tunnel %d: %s", first, text)
		}
		tunnels[1-first].Stop()
		r.same(t, before)
	}
}

func TestWhatADHCPClientWritesMeanwhileStays(t *testing.T) {
	t.Parallel()
	r := newResolving(t, "DNS = "+innerB+"\n")
	p := up(r.alpha, r.alphaConf)
	const dhcp = "nameserver 172.16.0.1\n"
	r.resolvConf(dhcp)
	p.Stop()
	if text := r.alpha.Run("cat", "/etc/resolv.conf"); text+"\n" != dhcp {
		t.Errorf("resolv.conf has %q", text)
	}
	if !strings.Contains(p.Output(), "changed by another program") {
		t.Errorf("up said %s", p.Output())
	}
}

func TestInAContainerResolvConfIsWrittenInPlace(t *testing.T) {
	t.Parallel()
	r := newResolving(t, "DNS = "+innerB+"\n")
	r.alpha.Run("sh", "-c", "cp /etc/resolv.conf /var/lib/of-the-container && mount --bind /var/lib/of-the-container /etc/resolv.conf")
	before := r.resolved()
	p := up(r.alpha, r.alphaConf)
	r.finds(t, "www.corp.example", "10.9.0.80")
	p.Stop()
	r.same(t, before)
}

func TestNamesOfSomeDomainsAloneNeedSystemdResolved(t *testing.T) {
	t.Parallel()
	r := newResolving(t, "DNS = "+innerB+", ~corp.example\n")
	before, state0 := r.resolved(), state(r.alpha)
	p := r.alpha.Start(binary, "up", r.alphaConf)
	if status := p.Wait(); status != 1 || !strings.Contains(p.Output(), "systemd-resolved") {
		t.Errorf("exit status %d: %s", status, p.Output())
	}
	r.same(t, before)
	sameState(t, r.alpha, state0)
}

// machineDNS is all of the machine's own that tests of DNS must not touch.
func machineDNS() string {
	var s strings.Builder
	for _, path := range []string{"/etc/resolv.conf", "/var/lib/stunnel"} {
		text, err := os.ReadFile(path)
		fmt.Fprintf(&s, "%s %q %v\n", path, text, err)
		if info, err := os.Lstat(path); err == nil {
			st := info.Sys().(*syscall.Stat_t)
			fmt.Fprintln(&s, st.Ino, st.Mode, st.Mtim, st.Ctim)
		}
		inside, _ := filepath.Glob(filepath.Join(path, "*"))
		fmt.Fprintln(&s, inside)
	}
	return s.String()
}
