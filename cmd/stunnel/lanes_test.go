package main

import (
	"strings"
	"testing"
)

func TestLanesByDefaultFitTheMachine(t *testing.T) {
	for cores, want := range map[int]int{1: 1, 2: 1, 3: 1, 4: 2, 8: 4, 15: 7, 16: 8, 128: 8} {
		if got := defaultLanes(cores); got != want {
			t.Errorf("%d cores: %d lanes, want %d", cores, got, want)
		}
	}
	if got := lanes(5); got != 5 {
		t.Errorf("asked for 5 lanes: %d", got)
	}
}

func TestUserspaceTakesLanesFromTheEnvironment(t *testing.T) {
	b := newBox(t)
	for _, wrong := range []string{"0", "65", "-1", "many", "300"} {
		b.start([]string{"STUNNEL_LANES=" + wrong}, "stunnel", "userspace", "wg0").wants(1, "STUNNEL_LANES", "from 1 to 64")
	}
	b.start([]string{"STUNNEL_LANES=3"}, "stunnel", "userspace", "wg0").wants(0)
	out := b.sh(`wg set wg0 listen-port 4711; ip link set wg0 up
		for i in {1..100}; do n=$(ss -Hlun 'sport = 4711' | wc -l); [ $n = 3 ] && break; sleep .05; done
		echo $n sockets; ip -d link show wg0`)
	if !strings.Contains(out, "3 sockets") || !strings.Contains(out, "multi_queue") || !strings.Contains(out, "numqueues 3") {
		t.Errorf("asked for 3 lanes: %s", out)
	}
	if got := b.shown("wg0").Lanes; got != 3 {
		t.Errorf("show tells %d lanes", got)
	}
	b.start(nil, "stunnel", "down", "wg0").wants(0)
}

func TestFewerLanesThanWantedAreTold(t *testing.T) {
	b := newBox(t)
	b.sh("ip tuntap add dev peer mode tun")
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "Lanes = 2\n")).untilReady()
	if got := b.shown("peer").Lanes; got != 1 {
		t.Errorf("show tells %d lanes", got)
	}
	b.start(nil, "stunnel", "down", "peer").wants(0)
	p.wants(0, "warning: fewer lanes than wanted", "lanes=1 wanted=2")

	// What a default asks for in vain is not worth a line.
	p = b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "")).untilReady()
	b.start(nil, "stunnel", "down", "peer").wants(0)
	p.wants(0)
	if strings.Contains(p.said(), "lanes") {
		t.Errorf("said %s", p.said())
	}
}
