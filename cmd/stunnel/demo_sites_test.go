package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"stunnel/device/capture"
)

// inOrder fails the test unless the text has all of these, one behind the other.
func inOrder(t *testing.T, text string, expressions ...string) {
	t.Helper()
	rest := text
	for _, e := range expressions {
		at := regexp.MustCompile(e).FindStringIndex(rest)
		if at == nil {
			t.Fatalf("there is no %q where it should be in\n%s", e, text)
		}
		rest = rest[at[1]:]
	}
}

func TestTheDemoOfTwoSitesShowsTheElevenStepsAndLeavesNothing(t *testing.T) {
	b := newBox(t)
	before := b.state()
	out := b.sh(programVariable + "=1 exec -a stunnel /proc/" + fmt.Sprint(os.Getpid()) + "/exe demo --tap --size 3M 2>&1")
	inOrder(t, out,
		`asks for 192\.168\.0\.3`,
		`\n   1 +0\.00 ms  host5 eth0 `, `\n   2 .* switch1 host5 `, `\n   3 .* switch1 vpn `, `\n   4 .* vpn1 eth1 `, `\n   5 .* vpn1 TAP `,
		`\n   6 .* vpn1 eth0 `, `\n   7 .* vpn2 eth0 `, ` vpn2 TAP `, `\n   8 .* vpn2 eth1 `, `\n   9 .* switch2 vpn `, ` switch2 host3 `,
		`\n  10 .* host3 eth0 `, `02:00:00:00:00:03\n  11 .* switch2 host3 `, ` vpn2 TAP `, ` vpn1 TAP `, ` switch1 host5 `, ` host5 eth0 `,
		`192\.168\.0\.6 and 192\.168\.0\.4 have heard the question and not the answer`,
		`ping .* 50 of 50 answered\n`, `outside +2[0-9][0-9] datagrams .* none of them a fragment of IP\n`, `TCP +3\.00 MB .* checked by a hash\n`,
		`interface: vpn1\n`, `02:00:00:00:00:05 +0 +this host`, `02:00:00:00:00:03 +0 +vpn2`,
		`interface: vpn2\n`, `02:00:00:00:00:03 +0 +this host`, `02:00:00:00:00:05 +0 +vpn1`)
	if n := strings.Count(out, "  0     "); n != 4 {
		t.Errorf("%d stations are shown, want two hosts at each site, which are all that have spoken:\n%s", n, out)
	}
	for _, said := range []string{"vpn1: going down", "vpn2: going down"} {
		if !strings.Contains(out, said) {
			t.Errorf("nobody says %q:\n%s", said, out)
		}
	}
	b.same(before)
}

func TestTheDemoOfTwoSitesNeedsNoRootWhereUserNamespacesAreAllowed(t *testing.T) {
	b := newBox(t)
	copied := b.forEverybody()
	as := programVariable + "=1 setpriv --reuid 65534 --regid 65534 --clear-groups "
	allowed := b.sh(as + "unshare --user --map-root-user true && echo allowed || echo forbidden")
	out := b.sh(as + copied + " demo --tap --size 1M 2>&1 || echo failed with $?")
	switch {
	case strings.HasSuffix(allowed, "allowed\n"):
		inOrder(t, out, `\n  11 `, `50 of 50 answered`, `02:00:00:00:00:05 +0 +vpn1`)
	case !strings.Contains(out, "stunnel: hint: sudo stunnel demo"):
		t.Errorf("the demo where user namespaces are forbidden gives no hint:\n%s", out)
	}
}

func TestTheEndOfTheDemoOfTwoSitesIsTheEndOfTheirHosts(t *testing.T) {
	for _, end := range []os.Signal{unix.SIGINT, unix.SIGKILL} {
		b := newBox(t)
		p := b.start([]string{"STUNNEL_DEMO_MARK=" + b.dir}, "stunnel", "demo", "--tap", "--size", "1000000G")
		waitFor(t, p, "over TCP")
		p.signal(end)
		<-p.ended
		if end == unix.SIGINT {
			p.wants(1, "interrupted", "vpn1: going down", "vpn2: going down")
		}
		if left := marked(t, b.dir); len(left) > 0 {
			t.Errorf("%v leaves %v", end, left)
		}
	}
}

func TestDatagramsAreCountedAsTheyWillBeCut(t *testing.T) {
	datagram := func(payload, cut int, flags uint16) capture.Frame {
		b := make([]byte, 14+28+payload)
		binary.BigEndian.PutUint16(b[12:], 0x0800)
		binary.BigEndian.PutUint16(b[14+6:], flags)
		return capture.Frame{Data: b, Cut: cut}
	}
	for _, c := range []struct {
		f    capture.Frame
		want datagrams
	}{
		{datagram(100, 0, 0x4000), datagrams{1, 128, 0}},     // don't fragment
		{datagram(1600, 800, 0x4000), datagrams{2, 828, 0}},  // two equal ones
		{datagram(1601, 800, 0x4000), datagrams{3, 828, 0}},  // and a short one
		{datagram(1472, 0, 0x2000), datagrams{1, 1500, 1}},   // the first fragment
		{datagram(30, 0, 0x00b9), datagrams{1, 58, 1}},       // the last one
		{capture.Frame{Data: make([]byte, 60)}, datagrams{}}, // no IP
	} {
		var got datagrams
		if got.count(c.f); got != c.want {
			t.Errorf("%d bytes, cut into %d: %+v, want %+v", len(c.f.Data), c.f.Cut, got, c.want)
		}
	}
}
