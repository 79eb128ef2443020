package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"stunnel/test/lab"
)

// diagnosis is what the tests read of `stunnel doctor --json`.
type diagnosis struct {
	Findings, Notes []finding
	Unread          []struct{ What, Why string }
}

type finding struct {
	ID, Tunnel, What string
	Evidence         []struct{ Source, Says string }
	Remedies         []struct{ Command, Why string }
}

func (d diagnosis) ids() (ids []string) {
	for _, f := range d.Findings {
		ids = append(ids, f.ID)
	}
	return ids
}

// examine asks the doctor, and holds his exit status against what he says. The command may have words before `stunnel`.
func examine(t *testing.T, h *lab.Host, args ...string) diagnosis {
	t.Helper()
	words := append([]string{binary, "doctor", "--json"}, args...)
	if i := slices.Index(args, "--"); i >= 0 {
		words = slices.Concat(args[:i], []string{binary, "doctor", "--json"}, args[i+1:])
	}
	out, err := h.Command(words...).Output()
	status := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		status = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	var d diagnosis
	if err := json.Unmarshal(out, &d); err != nil {
		t.Fatalf("%s: %v: exit status %d, %v\n%s", h.Name, words, status, err, out)
	}
	if want := min(len(d.Findings), 1); status != want {
		t.Errorf("%s: exit status %d with %d findings", h.Name, status, len(d.Findings))
	}
	return d
}

// finds wants this finding, and that it can be read too.
func finds(t *testing.T, h *lab.Host, id string, args ...string) {
	t.Helper()
	d := examine(t, h, args...)
	if !slices.Contains(d.ids(), id) {
		t.Errorf("%s: %s is not among the findings %v\n%+v", h.Name, id, d.ids(), d)
	}
}

// findsNothing wants none. That something could not be looked at would make it worth less.
func findsNothing(t *testing.T, h *lab.Host, args ...string) {
	t.Helper()
	if d := examine(t, h, args...); len(d.Findings) != 0 || len(d.Unread) != 0 {
		t.Errorf("%s: found where nothing is wrong: %+v", h.Name, d)
	}
}

func TestTheDoctorFindsNothingWhereNothingIsWrong(t *testing.T) {
	t.Parallel()
	h := newTwoHosts(t, "", outerB+":51820") // beta has no endpoint for alpha: it serves
	findsNothing(t, h.alpha)
	findsNothing(t, h.alpha, h.alphaConf)
	up(h.alpha, h.alphaConf)
	up(h.beta, h.conf)
	for _, host := range []*lab.Host{h.alpha, h.beta} {
		findsNothing(t, host, "tun0") // nothing was sent yet
	}
	ping(t, h.alpha, innerB, 5)
	ping(t, h.alpha, innerB6, 5)
	for _, host := range []*lab.Host{h.alpha, h.beta} {
		findsNothing(t, host)
		findsNothing(t, host, "tun0")
	}
	findsNothing(t, h.alpha, h.alphaConf)
	if out := h.alpha.Run(binary, "doctor", "tun0"); !strings.Contains(out, "nothing wrong was found") || strings.Contains(out, "1. ") {
		t.Errorf("%s", out)
	}
}

// ailment is something that can be wrong, and how it is mended.
type ailment struct {
	id            string
	provoke, mend func()
}

// cure provokes each ailment, wants it found, mends it, and wants nothing found.
func cure(t *testing.T, h *lab.Host, arg string, ailments []ailment) {
	t.Helper()
	for _, a := range ailments {
		a.provoke()
		finds(t, h, a.id, arg)
		a.mend()
		if d := examine(t, h, arg); len(d.Findings) != 0 {
			t.Errorf("%s: mended, and still found: %+v", a.id, d.Findings)
		}
	}
}

func TestTheDoctorFindsWhatUpWouldMeet(t *testing.T) {
	t.Parallel()
	h := newTwoHosts(t, outerA+":51820", outerB+":51820")
	run := func(args ...string) func() { return func() { h.alpha.Run(args...) } }
	var other *lab.Process
	cure(t, h.alpha, h.alphaConf, []ailment{
		{"no_tun", run("mount", "-t", "tmpfs", "none", "/dev/net"), run("umount", "/dev/net")},
		{"name_taken", run("ip", "link", "add", "tun0", "type", "veth"), run("ip", "link", "del", "tun0")},
		{"port_taken", func() {
			other = up(h.alpha, h.File("other/other0.conf", "[Interface]\nPrivateKey = "+h.alphaKeys.private+"\nListenPort = 51820\n"))
		}, func() { other.Stop() }},
		{"no_ipv6", run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"), run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=0")},
		{"endpoint_unreachable", run("ip", "route", "add", "blackhole", outerB+"/32"), run("ip", "route", "del", "blackhole", outerB+"/32")},
		{"firewall_sends_nothing", run("nft", "table inet f { chain o { type filter hook output priority 0; udp dport 51820 drop; }; }"), run("nft", "delete table inet f")},
	})
	drop := []string{"setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--", h.alphaConf}
	if d := examine(t, h.alpha, drop...); !slices.Equal(d.ids(), []string{"no_rights"}) {
		t.Errorf("root without CAP_NET_ADMIN: %+v", d)
	}

	// An ordinary user is told what could not be looked at, and that the file is root's.
	nobody := []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--"}
	h.alpha.Run("chmod", "755", h.Dir, filepath.Dir(h.Dir), filepath.Dir(binary))
	if d := examine(t, h.alpha, nobody...); len(d.Findings) != 0 || len(d.Unread) == 0 {
		t.Errorf("an ordinary user: %+v", d)
	}
	if out, err := h.alpha.Try(append(nobody[:len(nobody)-1:len(nobody)-1], binary, "doctor", h.alphaConf)...); err == nil || !strings.Contains(out, "sudo stunnel doctor") {
		t.Errorf("root's file, and an ordinary user: %v\n%s", err, out)
	}

	h.alpha.Run("mount", "--bind", h.File("resolv.conf", "nameserver 127.0.0.1\n"), "/etc/resolv.conf")
	named := h.File("named/tun0.conf", config(h.alphaKeys, innerA, innerA6, h.betaKeys, "beta", innerB, innerB6, "beta.test:51820"))
	finds(t, h.alpha, "endpoint_unresolvable", named)
	h.alpha.Run("mount", "--bind", h.File("hosts", outerB+" beta.test\n"), "/etc/hosts")
	findsNothing(t, h.alpha, named)

	faulty := h.File("faulty/tun0.conf", "[Interface]\nAdress = 10.9.0.1\nMTU = 5\n")
	if d := examine(t, h.alpha, faulty); !slices.Equal(d.ids(), []string{"configuration", "configuration", "configuration"}) || d.Findings[1].Evidence[0].Source != faulty+":2" {
		t.Errorf("three errors in a file: %+v", d)
	}
	if _, err := h.alpha.Try(binary, "doctor", "nosuch"); err == nil || err.(*exec.ExitError).ExitCode() != 1 {
		t.Errorf("a name of nothing: %v", err)
	}
	if _, err := h.alpha.Try(binary, "doctor", "--nosuch"); err == nil || err.(*exec.ExitError).ExitCode() != 2 {
		t.Errorf("a flag of nothing: %v", err)
	}
}

func TestTheDoctorFindsWhatStopsARunningTunnel(t *testing.T) {
	t.Parallel()
	h := newTwoHosts(t, "", outerB+":51820")
	wide := func(text string) string {
		return strings.Replace(text, "AllowedIPs = ", "AllowedIPs = 10.50.0.0/16, ", 1)
	}
	text := wide(config(h.alphaKeys, innerA, innerA6, h.betaKeys, "beta", innerB, innerB6, outerB+":51820"))
	h.alphaConf = h.File("alpha/tun0.conf", strings.Replace(text, "[Interface]\n", "[Interface]\nMTU = 1420\n", 1)) // else it follows
	up(h.alpha, h.alphaConf)
	up(h.beta, h.conf)
	ping(t, h.alpha, innerB, 5)
	run := func(args ...string) func() { return func() { h.alpha.Run(args...) } }
	nft := func(rules string) func() { return run("nft", rules) }
	clear := nft("delete table inet f")
	cure(t, h.alpha, h.alphaConf, []ailment{
		{"route_missing", run("ip", "route", "del", "10.50.0.0/16", "dev", "tun0"), run("ip", "route", "add", "10.50.0.0/16", "dev", "tun0")},
		{"route_missing", run("ip", "route", "replace", "10.50.0.0/16", "dev", "eth0"), run("ip", "route", "replace", "10.50.0.0/16", "dev", "tun0")},
		{"endpoint_in_tunnel", run("ip", "route", "add", outerB+"/32", "dev", "tun0"), run("ip", "route", "del", outerB+"/32", "dev", "tun0")},
		{"endpoint_unreachable", run("ip", "route", "add", "unreachable", outerB+"/32"), run("ip", "route", "del", "unreachable", outerB+"/32")},
		{"mtu_too_large", run("ip", "link", "set", "eth0", "mtu", "1400"), run("ip", "link", "set", "eth0", "mtu", "1500")},
		{"mtu_too_large", run("ip", "route", "add", outerB+"/32", "dev", "eth0", "mtu", "1400"), run("ip", "route", "del", outerB+"/32", "dev", "eth0")},
		{"no_ipv6", run("sysctl", "-qw", "net.ipv6.conf.tun0.disable_ipv6=1"), func() {
			h.alpha.Run("sysctl", "-qw", "net.ipv6.conf.tun0.disable_ipv6=0")
			h.alpha.Address(innerA6+"/64", "tun0")
		}},
		{"firewall_sends_nothing", nft("table inet f { chain o { type filter hook output priority 0; policy drop; oifname tun0 accept; }; }"), clear},
		{"firewall_takes_nothing", nft("table inet f { chain i { type filter hook input priority 0; policy drop; iifname tun0 accept; }; }"), clear},
		{"firewall_on_interface", nft("table inet f { chain i { type filter hook input priority 0; iifname tun0 drop; }; }"), clear},
		{"firewall_on_interface", nft("table inet f { chain o { type filter hook output priority 0; oifname tun0 reject; }; }"), clear},
	})
	// Who serves must be reached by what is new; a client's firewall may refuse that.
	refuse := "table inet f { chain i { type filter hook input priority 0; policy drop; ct state established,related accept; iifname tun0 accept; }; }"
	h.alpha.Run("nft", refuse)
	h.beta.Run("nft", refuse)
	if d := examine(t, h.alpha, h.alphaConf); len(d.Findings) != 0 {
		t.Errorf("a client's firewall that lets answers in: %+v", d)
	}
	finds(t, h.beta, "firewall_takes_nothing", h.conf)
	h.alpha.Run("nft", "delete table inet f")
	h.beta.Run("nft", "delete table inet f")

	h.alpha.Run("ip", "link", "set", "tun0", "down")
	finds(t, h.alpha, "interface_down", "tun0")
}

func TestTheDoctorSeesStrictReversePaths(t *testing.T) {
	h := newTwoHosts(t, outerA+":51820", outerB+":51820")
	off := h.File("off/tun0.conf", strings.Replace(config(h.alphaKeys, innerA, innerA6, h.betaKeys, "beta", innerB, innerB6, outerB+":51820"),
		"AllowedIPs = ", "AllowedIPs = 203.0.113.0/24, ", 1)+"")
	text := strings.Replace(h.alpha.Run("cat", off), "[Peer]", "Table = off\n[Peer]", 1)
	off = h.File("off/tun0.conf", text+"\n")
	h.alpha.Run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
	up(h.alpha, off)
	up(h.beta, h.conf)
	ping(t, h.alpha, innerB, 3)
	cure(t, h.alpha, off, []ailment{{"rp_filter",
		func() { h.alpha.Run("sysctl", "-qw", "net.ipv4.conf.tun0.rp_filter=1") },
		func() { h.alpha.Run("sysctl", "-qw", "net.ipv4.conf.tun0.rp_filter=2") }}})
}

func TestTheDoctorTellsWhyAHandshakeIsNotAnswered(t *testing.T) {
	// send makes alpha try, and waits until it has.
	send := func(t *testing.T, h *twoHosts) {
		h.alpha.Try("ping", "-n", "-c", "1", "-W", "1", innerB)
		awaitPeer(t, h.alpha, "tried", func(p shownPeer) bool { return p.TxBytes > 0 })
	}
	t.Run("nobody is there", func(t *testing.T) {
		t.Parallel()
		h := newTwoHosts(t, "", outerB+":51820")
		up(h.alpha, h.alphaConf)
		send(t, h)
		finds(t, h.alpha, "no_handshake", "tun0")
		h.beta.Run("ip", "link", "set", "eth0", "arp", "off")
		h.alpha.Run("ip", "neigh", "flush", "all")
		h.alpha.Try("ping", "-n", "-c", "4", "-W", "1", "-w", "4", outerB) // until its hardware address was asked for in vain
		finds(t, h.alpha, "next_hop_silent", "tun0")
	})
	t.Run("the key of the one that is called is wrong", func(t *testing.T) {
		t.Parallel()
		h := newTwoHosts(t, "", outerB+":51820")
		wrong := newPair(t)
		up(h.alpha, h.File("w/tun0.conf", config(h.alphaKeys, innerA, innerA6, wrong, "beta", innerB, innerB6, outerB+":51820")))
		up(h.beta, h.conf)
		send(t, h)
		finds(t, h.alpha, "no_handshake", "tun0")
		finds(t, h.beta, "wrong_key", "tun0")
	})
	t.Run("the key of the caller is wrong", func(t *testing.T) {
		t.Parallel()
		h := newTwoHosts(t, "", outerB+":51820")
		up(h.alpha, h.alphaConf)
		up(h.beta, h.File("w/tun0.conf", config(h.betaKeys, innerB, innerB6, newPair(t), "alpha", innerA, innerA6, "")))
		send(t, h)
		finds(t, h.alpha, "no_handshake", "tun0")
		finds(t, h.beta, "unknown_key", "tun0")
	})
	t.Run("the preshared keys differ", func(t *testing.T) {
		t.Parallel()
		h := newTwoHosts(t, "", outerB+":51820")
		psk := "PresharedKey = " + newPair(t).private + "\n"
		up(h.alpha, h.File("w/tun0.conf", config(h.alphaKeys, innerA, innerA6, h.betaKeys, "beta", innerB, innerB6, outerB+":51820")+psk))
		up(h.beta, h.conf)
		send(t, h)
		d := examine(t, h.alpha, "tun0")
		if !strings.Contains(fmt.Sprintf("%+v", d), "bad_handshake") {
			t.Errorf("the counter that tells it is not among the evidence: %+v", d)
		}
	})
	t.Run("the peer has gone down", func(t *testing.T) {
		t.Parallel()
		h := newTwoHosts(t, "", outerB+":51820")
		up(h.alpha, h.alphaConf)
		b := up(h.beta, h.conf)
		ping(t, h.alpha, innerB, 3)
		awaitPeer(t, h.alpha, "known to be a stunnel", func(p shownPeer) bool { return len(p.Announced) > 0 })
		b.Stop()
		awaitPeer(t, h.alpha, "gone", func(p shownPeer) bool { return p.Goodbye != nil })
		finds(t, h.alpha, "peer_down", "tun0")
	})
	t.Run("nobody knows where the peer is", func(t *testing.T) {
		t.Parallel()
		h := newTwoHosts(t, "", "")
		up(h.beta, h.conf)
		h.beta.Try("ping", "-n", "-c", "1", "-W", "1", innerA)
		finds(t, h.beta, "no_endpoint", "tun0")
	})
}

func TestTheDoctorFindsAllowedIPsThatLackSome(t *testing.T) {
	t.Parallel()
	h := newTwoHosts(t, "", outerB+":51820")
	up(h.alpha, h.alphaConf)
	up(h.beta, h.conf)
	ping(t, h.alpha, innerB, 1)
	h.alpha.Run("ip", "address", "add", "10.9.0.77/32", "dev", "tun0")
	h.alpha.Try("ping", "-n", "-c", "30", "-i", "0.01", "-w", "2", "-I", "10.9.0.77", innerB)
	finds(t, h.beta, "source_not_allowed", "tun0")
	h.alpha.Run("ip", "route", "add", "10.8.0.0/24", "dev", "tun0")
	h.alpha.Try("ping", "-n", "-c", "100", "-i", "0.01", "-W", "1", "10.8.0.1") // with -w it would end at the first refusal
	finds(t, h.alpha, "destination_not_allowed", "tun0")
}

func TestTheDoctorFindsWhoDoesNotForward(t *testing.T) {
	t.Parallel()
	h := newTwoHosts(t, "", outerB+":51820") // beta serves; alpha sends it packets for a network behind it
	wide := strings.Replace(config(h.alphaKeys, innerA, innerA6, h.betaKeys, "beta", innerB, innerB6, outerB+":51820"),
		"AllowedIPs = ", "AllowedIPs = 10.77.0.0/24, fd77::/64, ", 1)
	up(h.alpha, h.File("wide/tun0.conf", wide))
	up(h.beta, h.conf)
	ping(t, h.alpha, innerB, 5)
	ping(t, h.alpha, innerB6, 5)
	findsNothing(t, h.beta, "tun0")
	h.beta.Run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
	h.alpha.Try("ping", "-n", "-c", "2", "-i", "0.1", "-w", "1", "10.77.0.1")
	finds(t, h.beta, "not_forwarding", h.conf)
	h.beta.Run("sysctl", "-qw", "net.ipv4.ip_forward=1")
	h.alpha.Try("ping", "-n", "-c", "2", "-i", "0.1", "-w", "1", "fd77::1")
	finds(t, h.beta, "not_forwarding", h.conf)
	h.beta.Run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
	if d := examine(t, h.beta, h.conf); len(d.Findings) != 0 {
		t.Errorf("it forwards, and still: %+v", d)
	}
}

func TestTheDoctorFindsWhatAKilledTunnelHasLeft(t *testing.T) {
	h := newTwoHosts(t, outerA+":51820", outerB+":51820")
	a := up(h.alpha, h.alphaConf)
	findsNothing(t, h.alpha)
	a.Kill()
	finds(t, h.alpha, "leftovers")
	h.alpha.Run(binary, "down", "tun0")
	findsNothing(t, h.alpha)
}

func TestTheDoctorSeesWhereADefaultRouteLeads(t *testing.T) {
	t.Parallel()
	const far = "198.51.100.7" // of beta, behind the router that it is for alpha
	h := newTwoHosts(t, "", outerB+":51820")
	h.beta.Address(far+"/32", "lo")
	everything := strings.Replace(config(h.alphaKeys, innerA, innerA6, h.betaKeys, "beta", innerB, innerB6, far+":51820"),
		"AllowedIPs = ", "AllowedIPs = 0.0.0.0/0, ::/0, ", 1)
	h.alpha.Run("ip", "route", "add", "default", "via", outerB)
	h.alpha.Run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.eth0.rp_filter=0")
	up(h.alpha, h.File("all/tun0.conf", everything))
	up(h.beta, h.conf)
	ping(t, h.alpha, innerB, 5)
	ping(t, h.alpha, innerB6, 5)
	findsNothing(t, h.alpha)
	findsNothing(t, h.beta)
	path := h.Dir + "/all/tun0.conf"
	sysctl := func(values ...string) func() {
		return func() { h.alpha.Run(append([]string{"sysctl", "-qw"}, values...)...) }
	}
	cure(t, h.alpha, path, []ailment{
		{"rp_filter_of_sealed", sysctl("net.ipv4.conf.eth0.rp_filter=1", "net.ipv4.conf.all.src_valid_mark=0"), sysctl("net.ipv4.conf.all.src_valid_mark=1")},
		{"default_route_elsewhere", func() {
			h.alpha.Run("ip", "route", "add", "default", "via", outerB, "table", "99")
			h.alpha.Run("ip", "rule", "add", "priority", "99", "lookup", "99")
		}, func() {
			h.alpha.Run("ip", "rule", "del", "priority", "99")
			h.alpha.Run("ip", "route", "flush", "table", "99")
		}},
		{"endpoint_in_tunnel", func() { h.alpha.Run("ip", "route", "add", far+"/32", "dev", "tun0") },
			func() { h.alpha.Run("ip", "route", "del", far+"/32", "dev", "tun0") }},
	})
}
