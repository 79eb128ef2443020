package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// An order is what a person types, with IFACE and PORT for what differs
// between the sides; a word FILE stands for a file with the text of file.
type order struct {
	words string
	file  string
}

// give gives a side an order, and returns what there was to see of it.
func give(t *testing.T, s side, o order) string {
	t.Helper()
	words := strings.Fields(s.own(o.words))
	for i, w := range words {
		if w == "FILE" {
			words[i] = filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(words[i], []byte(s.own(o.file)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	stdout, stderr, err := run(t, words[0], words[1:]...)
	status := "ok"
	if err != nil {
		status = err.Error()
	}
	return s.common(fmt.Sprintf("%s\n%s%s", status, stdout, stderr))
}

// wgTold is what wg(8) tells of a side.
func wgTold(t *testing.T, s side) string {
	t.Helper()
	ask := func(args ...string) string { return s.common(must(t, "wg", args...)) }
	return fmt.Sprintf("show:\n%s\nshowconf:\n%s\ndump:\n%s\n", sortedBlocks(ask("show", s.name), "peer:"),
		sortedBlocks(ask("showconf", s.name), "[Peer]"), sortedDump(ask("show", s.name, "dump")))
}

// sortedDump sorts the peers, and each one's allowed IPs.
func sortedDump(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, line := range lines {
		columns := strings.Split(line, "\t")
		if len(columns) == 8 {
			allowed := strings.Split(columns[3], ",")
			slices.Sort(allowed)
			columns[3] = strings.Join(allowed, ",")
		}
		lines[i] = strings.Join(columns, "\t")
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

const (
	wgPrivate = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
	wgPSK     = "FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE="
	wgPeerA   = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
	wgPeerB   = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0="
	wgPeerC   = "gN65BkIKy1eCE9pP1wdc8ROUtkHLF2PfAqYdyYBz6EA="
)

const wgFile = `
[Interface]
PrivateKey = ` + wgPrivate + `
ListenPort = PORT
FwMark = 0x1234

[Peer]
PublicKey = ` + wgPeerA + `
PresharedKey = ` + wgPSK + `
Endpoint = 192.0.2.1:51820
AllowedIPs = 10.192.122.3/32, 10.192.124.1/24
PersistentKeepalive = 25

[Peer]
PublicKey = ` + wgPeerB + `
Endpoint = [2607:5300:60:6b0::c05f:543]:2468
AllowedIPs = 10.192.122.4/32, 192.168.0.0/16

[Peer]
PublicKey = ` + wgPeerC + `
AllowedIPs = 10.10.10.230/32, ::/0
`

const wgOtherFile = `
[Interface]
PrivateKey = ` + wgPrivate + `
ListenPort = PORT

[Peer]
PublicKey = ` + wgPeerA + `
Endpoint = 192.0.2.2:51821
AllowedIPs = 10.192.124.1/24

[Peer]
PublicKey = ` + wgPeerC + `
AllowedIPs = 10.10.10.230/32, 10.10.11.0/24
PersistentKeepalive = 7
`

// Each order goes to both interfaces, and afterwards wg must tell the same.
func TestWgConfiguresAndShowsAsItDoesWireGuardGo(t *testing.T) {
	besideEachReference(t, func(t *testing.T, r *rig) {
		psk := filepath.Join(t.TempDir(), "psk")
		if err := os.WriteFile(psk, []byte(wgPSK+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		peerA, peerB := " peer "+wgPeerA, " peer "+wgPeerB
		for _, o := range []order{
			{words: "wg set IFACE listen-port PORT"},
			{"wg setconf IFACE FILE", wgFile},
			{"wg setconf IFACE FILE", wgFile},
			{"wg syncconf IFACE FILE", wgFile},
			{"wg syncconf IFACE FILE", wgOtherFile},
			{"wg addconf IFACE FILE", strings.ReplaceAll(wgFile, "ListenPort", "#ListenPort")},
			{words: "wg set IFACE fwmark 0"},
			{words: "wg set IFACE fwmark off"},
			{words: "wg set IFACE fwmark 4294967295"},
			{words: "wg set IFACE" + peerA + " remove"},
			{words: "wg set IFACE" + peerA + " remove"},
			{words: "wg set IFACE" + peerA + " allowed-ips 10.1.0.0/16,fd00::1/128"},
			{words: "wg set IFACE" + peerA + " allowed-ips 10.192.122.4/32"}, // was B's
			{words: "wg set IFACE" + peerA + " persistent-keepalive 21 endpoint [fe80::1]:99"},
			{words: "wg set IFACE" + peerA + " persistent-keepalive off"},
			{words: "wg set IFACE" + peerA + " preshared-key " + psk},
			{words: "wg set IFACE" + peerA + " preshared-key /dev/null"},
			{words: "wg set IFACE" + peerA + " allowed-ips 0.0.0.0/0" + peerB + " allowed-ips ::/0,1.2.3.4"},
			{words: "wg set IFACE" + peerA + " allowed-ips "},
			{words: "wg set IFACE" + peerA + " endpoint 192.0.2.9:0"},
			{words: "wg set IFACE private-key /dev/null"},
			{words: "wg show IFACE nonsense"},
			{"wg setconf IFACE FILE", "[Interface]\nListenPort = PORT\n"},
			{"wg syncconf IFACE FILE", wgOtherFile},
			{"wg setconf IFACE FILE", "[Interface]\nListenPort = PORT\nNonsense = 1\n"},
			{"wg setconf IFACE FILE", "[Interface]\nListenPort = PORT\nPrivateKey = " + wgPrivate + "\n[Peer]\nPublicKey = " + wgPeerB + "\n"},
		} {
			mustAgree(t, o.words, give(t, r.reference, o), give(t, r.ours, o))
			mustAgree(t, "after "+o.words, wgTold(t, r.reference), wgTold(t, r.ours))
		}
	})
}

// What one side's showconf writes, the other takes, and then shows the same.
func TestShowconfOfTheOneIsSetconfOfTheOther(t *testing.T) {
	besideEachReference(t, func(t *testing.T, r *rig) {
		for _, way := range [][2]side{{r.reference, r.ours}, {r.ours, r.reference}} {
			from, to := way[0], way[1]
			if got := give(t, from, order{"wg setconf IFACE FILE", wgFile}); !strings.HasPrefix(got, "ok\n") {
				t.Fatal(got)
			}
			written := from.common(must(t, "wg", "showconf", from.name))
			if got := give(t, to, order{"wg setconf IFACE FILE", written}); !strings.HasPrefix(got, "ok\n") {
				t.Fatalf("%s of %s", got, written)
			}
			mustAgree(t, from.name+" to "+to.name, wgTold(t, from), wgTold(t, to))
			for _, s := range r.sides() {
				give(t, s, order{"wg setconf IFACE FILE", "[Interface]\nListenPort = PORT\n"})
			}
		}
	})
}

func TestEachColumnOfWgShowIsAsOfWireGuardGo(t *testing.T) {
	besideEachReference(t, func(t *testing.T, r *rig) {
		o := order{"wg setconf IFACE FILE", wgFile}
		mustAgree(t, o.words, give(t, r.reference, o), give(t, r.ours, o))
		for _, what := range []string{"public-key", "private-key", "listen-port", "fwmark", "peers", "preshared-keys", "endpoints",
			"latest-handshakes", "transfer", "persistent-keepalive"} {
			var told []string
			for _, s := range r.sides() {
				told = append(told, s.common(sortedLines(must(t, "wg", "show", s.name, what))))
			}
			mustAgree(t, what, told[0], told[1])
		}
	})
}

// With wg(8) alone, the two sides become each other's peers over the loopback;
// a syncconf of what is so already leaves the session alone.
func TestWgShowsASessionAndSyncconfKeepsIt(t *testing.T) {
	besideEachReference(t, func(t *testing.T, r *rig) {
		keys := [2]string{}
		for i := range keys {
			keys[i] = strings.TrimSpace(must(t, os.Getenv(stunnelVariable), "genkey"))
		}
		public := func(i int) string {
			f := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(f, []byte(keys[i]), 0o600); err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(must(t, "sh", "-c", "wg pubkey < "+f))
		}
		file := func(i int) string {
			return fmt.Sprintf("[Interface]\nPrivateKey = %s\nListenPort = PORT\n[Peer]\nPublicKey = %s\nAllowedIPs = 10.0.0.0/24\n"+
				"Endpoint = 127.0.0.1:%d\nPersistentKeepalive = 1\n", keys[i], public(1-i), r.sides()[1-i].port)
		}
		for i, s := range r.sides() {
			if got := give(t, s, order{"wg setconf IFACE FILE", file(i)}); got != "ok\n" {
				t.Fatal(got)
			}
		}
		handshake := func(s side) string {
			return strings.Fields(must(t, "wg", "show", s.name, "latest-handshakes"))[1]
		}
		deadline := time.Now().Add(10 * time.Second)
		for _, s := range r.sides() {
			for handshake(s) == "0" {
				if time.Now().After(deadline) {
					t.Fatalf("%s: no handshake:\n%s", s.name, wgTold(t, s))
				}
				time.Sleep(20 * time.Millisecond) // UAPI has no events
			}
		}
		before := [2]string{handshake(r.reference), handshake(r.ours)}
		for i, s := range r.sides() {
			if got := give(t, s, order{"wg syncconf IFACE FILE", file(i)}); got != "ok\n" {
				t.Fatal(got)
			}
			if now := handshake(s); now != before[i] {
				t.Errorf("%s: the handshake was at %s, and after syncconf at %s", s.name, before[i], now)
			}
		}
		for _, s := range r.sides() {
			show := must(t, "wg", "show", s.name)
			if !strings.Contains(show, "latest handshake: ") || !strings.Contains(show, "transfer: ") {
				t.Errorf("%s shows no session:\n%s", s.name, show)
			}
		}
	})
}
