package e2e

import (
	"strings"
	"testing"

	"stunnel/test/lab"
)

func TestEverythingGoesThroughTheTunnelAndNothingIsLeftAfterwards(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ allowed, more string }{
		"default routes":            {everything, ""},
		"halves of them":            {"0.0.0.0/1, 128.0.0.0/1, ::/1, 8000::/1", ""},
		"the endpoint within":       {"10.0.0.0/8, fd00::/8, 203.0.113.0/24", ""},
		"a mark of its own":         {everything, "FwMark = 0x77"},
		"a mark whose table is not": {everything, "FwMark = 254"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newFullWorld(t, 1)
			before := wholeState(w.client)
			w.unreachable("before")
			p := up(w.client, w.file("full", 0, c.allowed, c.more))
			w.carries(0, "up")
			w.noneFiltered("since up")
			transfer(t, w.client, w.servers[0].Host, farAway+":7000", 4<<20)
			transfer(t, w.servers[0].Host, w.client, "["+w.servers[0].inner6+"]:7000", 4<<20)
			ping(t, w.client, routerA, 2) // what has a route of its own keeps it
			if way := w.client.Run("ip", "route", "get", routerB); !strings.Contains(way, "eth1") {
				t.Errorf("the other cable's network is gone: %s", way)
			}
			w.noneInside("after transfers")
			if status := p.Stop(); status != 0 {
				t.Errorf("exit status %d:\n%s", status, p.Output())
			}
			sameWholeState(t, w.client, before, "after")
			w.unreachable("after")
		})
	}
}

func TestWhatIsShownAsTheMarkIsTheWholeMark(t *testing.T) {
	t.Parallel()
	lab.Need(t, "wg")
	w := newFullWorld(t, 1)
	// The kill switch of wg-quick(8)'s manual, in the words of nft.
	w.client.Run("nft", "add table inet k; add chain inet k out { type filter hook output priority 0; }")
	p := up(w.client, w.file("full", 0, everything, "PostUp = nft add rule inet k out oifname != %i mark != $(wg show %i fwmark) fib daddr type != local reject"))
	w.carries(0, "with a kill switch")
	w.client.Run("nft", "delete table inet k")
	p.Stop()
}

func TestOfTwoFullTunnelsTheLaterCarriesEverything(t *testing.T) {
	t.Parallel()
	for _, firstEnds := range []bool{true, false} {
		w := newFullWorld(t, 2)
		before := wholeState(w.client)
		first := up(w.client, w.file("one", 0, everything, ""))
		w.carries(0, "the first alone")
		withFirst := wholeState(w.client)
		second := up(w.client, w.file("two", 1, everything, ""))
		w.carries(1, "both")
		if firstEnds {
			first.Stop()
			w.carries(1, "the second alone")
			first = up(w.client, w.file("one", 0, everything, ""))
			w.carries(0, "the first, up again")
			second.Stop()
			w.carries(0, "the first, again alone")
			first.Stop()
		} else {
			second.Stop()
			sameWholeState(t, w.client, withFirst, "after the second")
			w.carries(0, "the first again")
			first.Stop()
		}
		sameWholeState(t, w.client, before, "after both")
	}
}

func TestTwoTunnelsWithTheSameMarkAreRefused(t *testing.T) {
	t.Parallel()
	w := newFullWorld(t, 2)
	p := up(w.client, w.file("one", 0, everything, "FwMark = 7"))
	before := wholeState(w.client)
	out, err := w.client.Try(binary, "up", w.file("two", 1, everything, "FwMark = 7"))
	if err == nil || !strings.Contains(out, "another tunnel has this mark") || !strings.Contains(out, "hint: take FwMark out") {
		t.Errorf("%v\n%s", err, out)
	}
	sameWholeState(t, w.client, before, "after the refusal")
	w.carries(0, "still")
	p.Stop()
}

func TestTheUnderlyingDefaultRouteChangesInMidTransfer(t *testing.T) {
	t.Parallel()
	w := newFullWorld(t, 1)
	s := w.servers[0]
	p := up(w.client, w.file("full", 0, everything, ""))
	w.carries(0, "by the first cable")
	for _, how := range []string{"another default route", "the cable is pulled"} {
		transfer(t, w.client, s.Host, farAway+":7000", 8<<20, func() {
			switch how {
			case "another default route":
				w.client.Run("ip", "route", "replace", "default", "via", routerB)
			case "the cable is pulled":
				w.client.Run("ip", "route", "replace", "default", "via", routerA, "metric", "100")
				w.client.Run("ip", "link", "set", "eth1", "down")
			}
		})
		w.noneInside(how)
	}
	if remote := show(t, s.Host, "tun0").Interfaces[0].Peers[0].Endpoint; !strings.HasPrefix(remote, cableA+":") {
		t.Errorf("at last the client comes from %s, want %s", remote, cableA)
	}
	p.Stop()
}

func TestTheEndpointChangesItsFamilyWhileTheTunnelRuns(t *testing.T) {
	t.Parallel()
	lab.Need(t, "wg")
	w := newFullWorld(t, 1)
	s := w.servers[0]
	p := up(w.client, w.file("full", 0, everything, ""))
	w.carries(0, "by IPv4")
	w.client.Run("wg", "set", "full", "peer", s.keys.public, "endpoint", "["+s.outer6+"]:51820")
	w.carries(0, "by IPv6")
	if remote := show(t, s.Host, "tun0").Interfaces[0].Peers[0].Endpoint; !strings.HasPrefix(remote, "["+cableA6) {
		t.Errorf("the client comes from %s", remote)
	}
	p.Stop()
}

// The kernel forgets all routes of a link that is set down: nothing may leave past the tunnel ever after.
func TestAFullTunnelThatIsSetDownAndUpCarriesEverythingAgain(t *testing.T) {
	t.Parallel()
	w := newFullWorld(t, 1)
	before := wholeState(w.client)
	p := up(w.client, w.file("full", 0, everything, ""))
	w.carries(0, "at first")
	w.client.Batch("link set full down", "link set full up")
	p.Await("put back: 2 routes")
	w.carries(0, "set down and up again")
	if status := p.Stop(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	sameWholeState(t, w.client, before, "afterwards")
}

func TestWhatIsRoutedBackIntoTheTunnelIsDroppedAndCounted(t *testing.T) {
	t.Parallel()
	w := newFullWorld(t, 1)
	p := up(w.client, w.file("full", 0, "203.0.113.0/24, 10.77.0.0/16", "Table = main"))
	p.Await("lies within AllowedIPs 203.0.113.0/24")
	// The first initiation may have left before the routes were there: the next one comes after at most 5.4 s.
	if out, err := w.client.Try("ping", "-n", "-c", "2", "-i", "5.5", "-W", "1", farAway); err == nil {
		t.Errorf("it is answered:\n%s", out)
	}
	if n := show(t, w.client, "full").Interfaces[0].Peers[0].DroppedPackets["routing_loop"]; n == 0 || n > 20 {
		t.Errorf("%d packets went round", n)
	}
	p.Stop()
}

func TestWhatSomebodySendsToTheTunnelsAddressFromOutsideIsDropped(t *testing.T) {
	t.Parallel()
	w := newFullWorld(t, 1)
	inner := w.servers[0].inner
	w.router.Run("ip", "route", "add", inner+"/32", "via", cableA)
	if out, err := w.router.Try("ping", "-n", "-c", "1", "-W", "1", inner); err == nil {
		t.Fatalf("it is there without a tunnel:\n%s", out)
	}
	p := up(w.client, w.file("full", 0, everything, ""))
	if out, err := w.router.Try("ping", "-n", "-c", "2", "-i", "0.1", "-W", "1", inner); err == nil {
		t.Errorf("the router reaches the inside of the tunnel:\n%s", out)
	}
	if table := w.client.Run("nft", "list", "table", "inet", "stunnel-full"); !strings.Contains(table, "counter packets 2") {
		t.Errorf("the two packets were not counted:\n%s", table)
	}
	ping(t, w.client, inner, 1) // ourselves we may
	p.Stop()
}

func TestWithTableOffAProgramThatAsksForTheTunnelGetsIt(t *testing.T) {
	t.Parallel()
	lab.Need(t, "curl")
	w := newFullWorld(t, 1)
	w.client.Run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=2") // 1 takes an answer only where the default route leads
	for _, table := range []string{"off", "4711"} {
		before := wholeState(w.client)
		p := up(w.client, w.file("full", 0, everything, "Table = "+table))
		if way := w.client.Run("ip", "route", "get", "8.8.8.8"); !strings.Contains(way, "eth0") {
			t.Errorf("Table = %s: %s", table, way)
		}
		w.unreachable("Table = " + table)
		if table == "4711" {
			w.client.Run("ip", "rule", "add", "oif", "full", "lookup", table)
			w.client.Run("ip", "-6", "rule", "add", "oif", "full", "lookup", table)
		}
		urls := []string{"http://" + farAway + ":8080/", "http://[" + farAway6 + "]:8080/"}
		if table == "off" {
			urls = urls[:1] // for IPv6 the kernel wants a route, even so
		}
		for _, url := range urls {
			serving := w.servers[0].Start(tool("tool-http", ":8080")...)
			serving.Await("listening")
			if out := w.client.Run("curl", "-sS", "--max-time", "10", "--interface", "full", url); !strings.Contains(out, w.servers[0].inner) && !strings.Contains(out, w.servers[0].inner6) {
				t.Errorf("Table = %s: %s says %s", table, url, out)
			}
			serving.Kill()
		}
		if table == "4711" {
			w.client.Run("ip", "rule", "del", "oif", "full", "lookup", table)
			w.client.Run("ip", "-6", "rule", "del", "oif", "full", "lookup", table)
		}
		p.Stop()
		sameWholeState(t, w.client, before, "Table = "+table)
	}
}
