package main

import (
	"strings"
	"testing"
)

func TestBurstsFollowTheMTU(t *testing.T) {
	b := newBox(t)
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "MTU = 1420\n")).untilReady()
	// 45 packets of 1420 bytes, sealed, are one send; of 9000 bytes 7.
	b.sh("for i in {1..100}; do ip -d link show peer | grep -q 'gso_max_size 61521 gso_max_segs 64' && exit; sleep .1; done; ip -d link show peer; exit 1")
	b.sh("ip link set peer mtu 9000; for i in {1..100}; do ip -d link show peer | grep -q 'gso_max_size 62901 ' && exit; sleep .1; done; ip -d link show peer; exit 1")
	b.start(nil, "stunnel", "down", "peer").wants(0)
	p.wants(0)
}

func TestABurstOfFramesIsOneSend(t *testing.T) {
	for _, c := range []struct {
		mtu      int
		ethernet bool
		want     int
	}{
		{1420, false, 45},
		{9000, false, 7},
		{1420, true, 44},  // 1438 bytes and 32 of the message's own
		{1423, true, 32},  // two messages for each, 64 are the most
		{1500, true, 32},  //
		{1300, true, 48},  //
		{9000, true, 7},   // outside has room for them, or they are cut in any case
		{65521, true, 1},  //
		{65535, false, 1}, //
	} {
		if got := burstLength(c.mtu, c.ethernet); got != c.want {
			t.Errorf("MTU %d, Ethernet %v: %d packets, want %d", c.mtu, c.ethernet, got, c.want)
		}
	}
}

func TestBurstsThatAreNotOursToBoundAreToldOnce(t *testing.T) {
	b := newBox(t)
	b.sh("ip tuntap add dev mine mode tun user 65534; mkdir -p /var/run/wireguard; chown 65534 /var/run/wireguard")
	copied := b.forEverybody()
	out := b.sh("export LOG_LEVEL=verbose " + programVariable + "=1; setpriv --reuid 65534 --regid 65534 --clear-groups " + copied + ` userspace -f mine 2>said &
		await() { for i in {1..200}; do eval "$1" && return; sleep .05; done; cat said; echo "not so: $1"; exit 1; }
		await 'grep -q gso_max_size said'
		ip link set mine up mtu 1300
		await 'grep -q offloads said'
		kill $!; wait $!; cat said`)
	if n := strings.Count(out, "gso_max_size"); n != 1 {
		t.Errorf("said %d times:\n%s", n, out)
	}
}
