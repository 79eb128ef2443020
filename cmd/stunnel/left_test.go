package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// persistent makes an interface for the tunnel that outlives its process: then all that this has changed outlives it, too.
func (b *box) persistent() {
	b.t.Helper()
	b.sh("ip tuntap add dev peer mode tun; ip addr add fd99::1/64 dev peer; mkdir -p /var/run/wireguard")
}

func TestWhatAKilledUpHasLeftIsTakenBackByDown(t *testing.T) {
	for _, keep := range []bool{false, true} {
		b := newBox(t)
		if keep {
			b.persistent()
		}
		b.sh("mkdir -p /var/run/wireguard")
		before := b.state()
		p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "")).untilReady()
		p.signal(unix.SIGKILL)
		p.status()
		if b.state() == before {
			t.Error("it has left nothing: the test proves nothing")
		}
		b.start(nil, "stunnel", "down", "peer").wants(0, "peer was not running", fmt.Sprintf("process %d has ended", p.Process.Pid),
			"address 10.5.0.1/24", "peer up", "2 routes", "taken back")
		b.same(before)
		b.start(nil, "stunnel", "down", "peer").wants(1, "peer is not running")
	}
}

func TestWhatAKilledUpHasLeftIsTakenBackByTheNextUp(t *testing.T) {
	b := newBox(t)
	b.persistent()
	before := b.state()
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "MTU = 1300\n")).untilReady()
	p.signal(unix.SIGKILL)
	p.status()
	next := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "")).untilReady()
	next.signal(unix.SIGTERM)
	next.wants(0, "an earlier process of this tunnel was killed", fmt.Sprintf("pid=%d", p.Process.Pid), "was left: MTU 1300", "was left: address 10.5.0.1/24")
	b.same(before)
}

func TestAKilledUpThatHasChangedNothingLeavesNoMoreThanItsSocket(t *testing.T) {
	b := newBox(t)
	b.sh("mkdir -p /var/run/wireguard")
	before := b.state()
	fifo := filepath.Join(b.dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "PreUp = echo waiting; read x < "+fifo+"\n"))
	waitFor(t, p, "waiting")
	p.signal(unix.SIGKILL)
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0) // the hook ends when this is closed
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	p.status()
	b.start(nil, "stunnel", "down", "peer").wants(0, "nothing but its control socket")
	b.same(before)
}

func TestDownInAnotherNamespaceLeavesWhatIsNotThere(t *testing.T) {
	b := newBox(t)
	b.persistent()
	before := b.state()
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "")).untilReady()
	p.signal(unix.SIGKILL)
	p.status()
	wantWords(t, b.types("set +e; unshare --net stunnel down peer"), "another network namespace", "hint: run stunnel down there", "status 1")
	wantWords(t, b.state(), "10.5.0.1/24", "peer.journal")
	b.start(nil, "stunnel", "down", "peer").wants(0)
	b.same(before)
}

func TestUpIsNotHinderedByWhatIsLeftInAnotherNamespace(t *testing.T) {
	b := newBox(t)
	path := b.tunnelFile("peer.conf", "")
	b.types("unshare --net bash -ec 'ip link set lo up; stunnel up ./peer.conf --detach'")
	pid := b.pidOf("peer")
	ended := gone(t, pid)
	unix.Kill(pid, unix.SIGKILL)
	ended()
	p := b.start(nil, "stunnel", "up", path).untilReady()
	p.signal(unix.SIGTERM)
	p.wants(0)
	if strings.Contains(p.said(), "was left") {
		t.Errorf("it was not left here:\n%s", p.said())
	}
}

func TestAJournalThatCannotBeWrittenEndsUpBeforeTheFirstChange(t *testing.T) {
	b := newBox(t)
	b.sh("mkdir -p /var/run/wireguard; touch /run/stunnel")
	before := b.state()
	b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "")).wants(1, "error: journal", "/run/stunnel")
	b.same(before)
}
