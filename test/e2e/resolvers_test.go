package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"stunnel/test/lab"
)

// Programs that are in charge of resolv.conf can't be installed for a test: they
// would take charge of the machine's. Their packages are unpacked instead, and
// laid over the /usr of one host.

var (
	unpackedMu sync.Mutex
	unpacked   = make(map[string]string) // package -> directory
)

// unpack fetches a Debian package and unpacks it. It skips the test, with words,
// where that can't be.
func unpack(t *testing.T, name string) string {
	t.Helper()
	for _, command := range []string{"apt-get", "dpkg-deb"} {
		lab.Need(t, command)
	}
	unpackedMu.Lock()
	defer unpackedMu.Unlock()
	if dir, ok := unpacked[name]; ok {
		return dir
	}
	dir := filepath.Join(filepath.Dir(binary), name) // removed with the binary
	script := `mkdir -p "$1" && chmod 755 "$(dirname "$1")" "$1" && cd "$1" && apt-get -q download "$2" && dpkg-deb -x *.deb . && rm *.deb &&
		mkdir -p usr && for d in lib sbin bin; do if [ -d $d ]; then mkdir -p usr/$d && cp -a $d/. usr/$d/ && rm -r $d; fi; done`
	cmd := exec.Command("sh", "-c", script, "sh", dir, name)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("needs the package %s, which can't be fetched: %v\n%s", name, err, out)
	}
	unpacked[name] = dir
	return dir
}

// overlay lays what was unpacked over the host's /usr and /etc.
func overlay(t *testing.T, h *lab.Host, dir string) {
	t.Helper()
	if out, err := h.Try("mount", "-t", "overlay", "-o", "lowerdir="+dir+"/usr:/usr", "none", "/usr"); err != nil {
		t.Skipf("needs overlayfs: %s", out)
	}
	h.Run("sh", "-c", `[ ! -d "$1"/etc ] || cp -a "$1"/etc/. /etc/`, "sh", dir)
}

// await waits, by asking, until done says so.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not after 10 s: %s", what)
		}
	}
}

func TestOpenresolvIsToldAndToldOtherwise(t *testing.T) {
	t.Parallel()
	dir := unpack(t, "openresolv")
	r := newResolving(t, "DNS = "+innerB+", corp.example\n")
	overlay(t, r.alpha, dir)
	r.alpha.Input(provider, "resolvconf", "-a", "eth0.dhcp")
	before := r.resolved() + r.alpha.Run("resolvconf", "-l")
	r.finds(t, "www.isp.example", "192.0.2.67")
	p := up(r.alpha, r.alphaConf)
	if !strings.Contains(p.Output(), "(by resolvconf)") {
		t.Errorf("up said %s", p.Output())
	}
	asked := r.outside.Output()
	r.finds(t, "www.corp.example", "10.9.0.80")
	r.finds(t, "www", "10.9.0.80")
	if r.outside.Output() != asked {
		t.Errorf("the name server outside: %s", r.outside.Output())
	}
	p.Stop()
	if after := r.resolved() + r.alpha.Run("resolvconf", "-l"); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}

	up(r.alpha, r.alphaConf).Kill()
	r.alpha.Run(binary, "down", "tun0")
	if after := r.resolved() + r.alpha.Run("resolvconf", "-l"); after != before {
		t.Errorf("after kill -9 and down\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

func TestDebiansResolvconfIsToldAndToldOtherwise(t *testing.T) {
	t.Parallel()
	dir := unpack(t, "resolvconf")
	r := newResolving(t, "DNS = "+innerB+", corp.example\n")
	overlay(t, r.alpha, dir)
	r.alpha.Run("sh", "-c", "mkdir -p /run/resolvconf/interface && ln -sfn /run/resolvconf /etc/resolvconf/run && ln -sf /run/resolvconf/resolv.conf /etc/resolv.conf && resolvconf --enable-updates")
	r.alpha.Input(provider, "resolvconf", "-a", "eth0.dhcp")
	r.finds(t, "www.isp.example", "192.0.2.67")
	before := r.resolved()
	p := up(r.alpha, r.alphaConf)
	if !strings.Contains(p.Output(), "(by resolvconf)") {
		t.Errorf("up said %s", p.Output())
	}
	r.finds(t, "www.corp.example", "10.9.0.80")
	p.Stop()
	r.same(t, before)
}

// withResolved runs systemd-resolved on alpha, with a system bus of alpha's own, and
// makes it ask the provider.
func withResolved(t *testing.T, r *resolving) {
	t.Helper()
	for _, command := range []string{"dbus-daemon", "busctl"} {
		lab.Need(t, command)
	}
	overlay(t, r.alpha, unpack(t, "systemd-resolved"))
	r.alpha.Run("sh", "-c", `grep -q ^messagebus: /etc/passwd || echo messagebus:x:900:900::/:/bin/false >> /etc/passwd
		grep -q ^systemd-resolve: /etc/passwd || echo systemd-resolve:x:901:901::/:/bin/false >> /etc/passwd
		grep -q ^systemd-resolve: /etc/group || echo systemd-resolve:x:901: >> /etc/group
		mkdir -p /run/dbus /run/systemd /etc/systemd && printf '[Resolve]\nLLMNR=no\nMulticastDNS=no\nFallbackDNS=\n' > /etc/systemd/resolved.conf`)
	r.alpha.Start("dbus-daemon", "--system", "--nofork", "--nopidfile", "--nosyslog")
	await(t, "a system bus", func() bool {
		_, err := r.alpha.Try("busctl", "--system", "list")
		return err == nil
	})
	r.alpha.Start("/usr/lib/systemd/systemd-resolved")
	await(t, "systemd-resolved on the bus", func() bool {
		_, err := r.alpha.Try("busctl", "call", "org.freedesktop.resolve1", "/org/freedesktop/resolve1", "org.freedesktop.DBus.Peer", "Ping")
		return err == nil
	})
	r.alpha.Run("ln", "-sf", "/run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf")
	r.alpha.Run("sh", "-c", `busctl call org.freedesktop.resolve1 /org/freedesktop/resolve1 org.freedesktop.resolve1.Manager SetLinkDNS 'ia(iay)' $(ip -o link show eth0 | cut -d: -f1) 1 2 4 `+
		strings.ReplaceAll(outerB, ".", " "))
}

// resolvedTells is what resolved says of its servers and domains, per interface.
func resolvedTells(r *resolving) string {
	get := func(property string) string {
		return property + " " + r.alpha.Run("busctl", "get-property", "org.freedesktop.resolve1", "/org/freedesktop/resolve1", "org.freedesktop.resolve1.Manager", property)
	}
	return get("DNS") + "\n" + get("Domains") + "\n" + r.alpha.Run("cat", "/run/systemd/resolve/resolv.conf")
}

func TestSystemdResolvedAsksTheTunnelForEverything(t *testing.T) {
	t.Parallel()
	r := newResolving(t, "DNS = "+innerB+", corp.example\n")
	withResolved(t, r)
	before := r.resolved() + resolvedTells(r)
	r.finds(t, "www.isp.example", "192.0.2.67")
	p := up(r.alpha, r.alphaConf)
	if !strings.Contains(p.Output(), "(by systemd-resolved)") {
		t.Errorf("up said %s", p.Output())
	}
	asked := r.outside.Output()
	r.finds(t, "www.corp.example", "10.9.0.80")
	r.finds(t, "www", "10.9.0.80")
	if r.outside.Output() != asked {
		t.Errorf("the name server outside: %s", r.outside.Output())
	}
	p.Stop()
	if after := r.resolved() + resolvedTells(r); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestSystemdResolvedAsksTheTunnelForItsDomainsAlone(t *testing.T) {
	t.Parallel()
	r := newResolving(t, "DNS = "+innerB+", ~corp.example\n")
	withResolved(t, r)
	before := r.resolved() + resolvedTells(r)
	p := up(r.alpha, r.alphaConf)
	r.finds(t, "www.isp.example", "192.0.2.67")
	r.finds(t, "www.corp.example", "10.9.0.80")
	if out := r.outside.Output(); strings.Contains(out, "corp.example") {
		t.Errorf("the name server outside was asked: %s", out)
	}
	if out := r.inside.Output(); strings.Contains(out, "isp.example") {
		t.Errorf("the name server inside was asked: %s", out)
	}
	p.Kill() // the interface goes, and what resolved knew of it
	r.alpha.Run(binary, "down", "tun0")
	await(t, "systemd-resolved as before", func() bool { return r.resolved()+resolvedTells(r) == before })
	p = up(r.alpha, r.alphaConf)
	p.Stop()
	if after := r.resolved() + resolvedTells(r); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestAnotherNamespacesResolvedIsLeftAlone(t *testing.T) {
	t.Parallel()
	r := newResolving(t, "DNS = "+innerB+"\n")
	withResolved(t, r)
	// The bus is in sight, and the interface 1 of resolved's is not ours.
	inner := []string{"unshare", "--net", "sh", "-c", `ip link set lo up && exec "$@"`, "sh"}
	path := r.File("alpha/other.conf", fmt.Sprintf("[Interface]\nPrivateKey = %s\nDNS = %s\n", newPair(t).private, innerB))
	before := resolvedTells(r)
	p := r.alpha.Start(append(inner, binary, "up", path)...)
	p.Await(upSaid)
	if !strings.Contains(p.Output(), "(by /etc/resolv.conf)") || resolvedTells(r) != before {
		t.Errorf("up said %s; resolved: %s", p.Output(), resolvedTells(r))
	}
	p.Stop()
}

func TestEverythingThroughTheTunnelTakesNamesAlong(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"/etc/resolv.conf", "systemd-resolved"} {
		t.Run(filepath.Base(by), func(t *testing.T) {
			lab.Need(t, "tcpdump")
			lab.Need(t, "nft")
			r := newResolving(t, "DNS = "+innerB+"\n")
			r.alphaConf = r.File("alpha/tun0.conf", strings.Replace(r.text(t), innerB+"/32, "+innerB6+"/128", "0.0.0.0/0, ::/0", 1))
			if by == "systemd-resolved" {
				withResolved(t, r)
			}
			before := r.resolved()
			watch := r.beta.Start("tcpdump", "-n", "-l", "-i", "eth0", "dst port 53")
			watch.Await("listening on")
			p := up(r.alpha, r.alphaConf)
			if !strings.Contains(p.Output(), "(by "+by+")") {
				t.Errorf("up said %s", p.Output())
			}
			r.finds(t, "www.corp.example", "10.9.0.80")
			ping(t, r.alpha, innerB, 1)

			// A second one is asked for outside: the name server of the first does not know its endpoint.
			second := r.File("alpha/tun1.conf", fmt.Sprintf("[Interface]\nPrivateKey = %s\nAddress = 10.8.0.2/32\n[Peer]\nPublicKey = %s\nAllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = %s:4\n",
				newPair(t).private, newPair(t).public, remote))
			q := up(r.alpha, second)
			q.Stop()
			if out := r.inside.Output(); strings.Contains(out, remote) {
				t.Errorf("the name server inside was asked for an endpoint: %s", out)
			}
			for line := range strings.Lines(watch.Output()) {
				if strings.Contains(line, "192.0.2.1.") && !strings.Contains(line, "? "+remote) {
					t.Errorf("a question left beside the tunnel: %s", line)
				}
			}
			p.Stop()
			r.same(t, before)
		})
	}
}
