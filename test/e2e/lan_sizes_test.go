package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"stunnel/device/capture"
	"stunnel/test/lab"
)

// Hosts of a LAN use packets as long as the LAN allows, whatever the network between
// the sites carries, and nothing that they say is to be read there.
func TestFullSizeFramesPassAndNothingOfThemIsReadOutside(t *testing.T) {
	for _, c := range []struct{ inside, parts int }{{1500, 2}, {9000, 7}} {
		t.Run(fmt.Sprintf("%d inside 1500", c.inside), func(t *testing.T) {
			t.Parallel()
			n := newLAN(t, 2, c.inside)
			n.mesh("")
			one, two := n.sites[0], n.sites[1]
			before := bridgeIdentity(one.vpn)
			n.up()
			if got, want := before[0], fmt.Sprint(c.inside); got != want {
				t.Fatalf("the bridge has MTU %s, want %s", got, want)
			}
			h5, h3 := one.hosts[0], two.hosts[0]
			ping(t, h5.Host, h3.ip.String(), 1)

			const pings = 5
			inside, outside := one.vpn.Capture("eth1"), one.vpn.Capture("eth0")
			end := beginWatch(t, two.vpn, "eth0", "51820")
			ping(t, h5.Host, h3.ip.String(), pings, "-M", "do", "-s", fmt.Sprint(c.inside-28))
			ping(t, h5.Host, h3.ip6.String(), pings, "-M", "do", "-s", fmt.Sprint(c.inside-48))
			if w := end(); w.Fragments > 0 || w.Longest > 1500 || w.Datagrams < 2*pings*c.parts {
				t.Errorf("for %d pings site 2 was sent %+v, want at least %d datagrams of at most 1500 bytes", 2*pings, w, 2*pings*c.parts)
			}
			end = beginWatch(t, two.vpn, "eth0", "51820")
			deliver(t, h5, h3)
			deliver(t, h3, h5)
			if w := end(); w.Fragments > 0 || w.Longest > 1500 {
				t.Errorf("for content site 2 was sent %+v", w)
			}
			for _, host := range []*lab.Host{one.vpn, two.vpn} {
				if n := counters(host, "FragCreates", "ReasmReqds"); len(n) > 0 {
					t.Errorf("%s has cut packets as IP does: %v", host.Name, n)
				}
			}
			for _, host := range []*lab.Host{h5.Host, h3.Host} {
				if wrong := counters(host, "InCsumErrors"); len(wrong) > 0 {
					t.Errorf("%s has met wrong checksums: %v", host.Name, wrong)
				}
			}
			for what, clear := range map[string][]byte{
				"text": []byte(clearText), "MAC address of host5": h5.mac, "MAC address of host3": h3.mac,
				"IP addresses": append(h5.ip.AsSlice(), h3.ip.AsSlice()...), "IPv6 address": h3.ip6.AsSlice(),
			} {
				contains := func(f capture.Frame) bool { return bytes.Contains(f.Data, clear) }
				if len(inside.Frames(contains)) == 0 {
					t.Errorf("the %s cannot be found in the LAN: this test looks for the wrong thing", what)
				}
				if found := outside.Frames(contains); len(found) > 0 {
					t.Errorf("the %s is to be read outside, in %d datagrams", what, len(found))
				}
			}

			if during := bridgeIdentity(one.vpn); during != before {
				t.Errorf("br0 had %s and has %s with the TAP", before, during)
			}
			n.down()
			if after := bridgeIdentity(one.vpn); after != before {
				t.Errorf("br0 had %s before and has %s after", before, after)
			}
		})
	}
}

// bridgeIdentity is the MTU and the MAC address of br0.
func bridgeIdentity(h *lab.Host) [2]string {
	words := strings.Fields(h.Run("ip", "-o", "link", "show", "br0"))
	after := func(word string) string { return words[slices.Index(words, word)+1] }
	return [2]string{after("mtu"), after("link/ether")}
}

// clearText is what hosts say.
const clearText = "this is what host five says to host three, and nobody else is to read it; "

// deliver has one host send text over TCP to another, and compares.
func deliver(t *testing.T, from, to *lanHost) {
	t.Helper()
	var l *net.TCPListener
	to.Do(func() (err error) {
		l, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: to.ip.AsSlice()})
		return err
	})
	defer l.Close()
	var out *net.TCPConn
	from.Do(func() (err error) {
		out, err = net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr))
		return err
	})
	defer out.Close()
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	text := bytes.Repeat([]byte(clearText), 4<<20/len(clearText))
	sent := make(chan error, 1)
	go func() {
		_, err := out.Write(text)
		if err == nil {
			err = out.CloseWrite()
		}
		sent <- err
	}()
	got := sha256.New()
	if _, err := io.Copy(got, in); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256(text); !bytes.Equal(got.Sum(nil), want[:]) {
		t.Errorf("%s got something else than %s sent: the hashes differ", to.Name, from.Name)
	}
}
