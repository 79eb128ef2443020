package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// waiting is a hook that tells by fifo that it runs and then waits for ever, with a child that does so too.
func waiting(fifo string) string { return "echo > " + fifo + "; sleep 1000; echo not reached" }

// fifo makes one. To read it waits until a hook runs, and says so.
func (b *box) fifo(name string) (path string, runs func()) {
	b.t.Helper()
	path = filepath.Join(b.dir, name)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path, func() {
		b.t.Helper()
		if _, err := os.ReadFile(path); err != nil {
			b.t.Fatal(err)
		}
	}
}

func TestASecondSignalStopsTheHookThatRunsAndNoOther(t *testing.T) {
	b := newBox(t)
	fifo, runs := b.fifo("fifo")
	before := b.state()
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "PreDown = "+waiting(fifo)+"\nPreDown = echo second PreDown\nPostDown = echo PostDown too\n")).untilReady()
	began := time.Now()
	p.signal(unix.SIGTERM)
	runs()
	time.Sleep(time.Until(began.Add(sameSignal + 200*time.Millisecond))) // the time is what is tested
	p.signal(unix.SIGTERM)
	p.wants(1, "PreDown", "stopped by a second signal", "second PreDown\n", "PostDown too\n")
	if strings.Contains(p.said(), "\nnot reached\n") {
		t.Errorf("the hook went on:\n%s", p.said())
	}
	b.same(before)
}

func TestASignalThatComesTwiceAtOnceIsOne(t *testing.T) {
	b := newBox(t)
	before := b.state()
	slow := " = sleep .3; echo done\n"
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "PreDown"+slow+"PostDown"+slow)).untilReady()
	p.signal(unix.SIGINT) // as timeout(1) does to us and to our group
	p.signal(unix.SIGTERM)
	p.wants(0, "done\n")
	if strings.Count(p.said(), "done\n") != 2 {
		t.Errorf("hooks were cut:\n%s", p.said())
	}
	b.same(before)
}

func TestAHookThatIsStoppedLeavesNoChildren(t *testing.T) {
	b := newBox(t)
	fifo, runs := b.fifo("fifo")
	pid := filepath.Join(b.dir, "pid")
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "PostUp = sleep 1000 & echo $! > "+pid+"; echo > "+fifo+"; wait\n"))
	runs()
	text, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	ended := gone(t, child)
	p.signal(unix.SIGINT)
	ended()
	p.wants(1)
}

func TestWhatAHookHasStartedLivesOn(t *testing.T) {
	b := newBox(t)
	pid := filepath.Join(b.dir, "pid")
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "PostUp = sleep 1000 < /dev/null > /dev/null 2>&1 & echo $! > "+pid+"\nPreDown = kill $(cat "+pid+")\n")).untilReady()
	p.signal(unix.SIGTERM)
	p.wants(0) // PreDown has found it
}

func TestUpEndsWithWordsWhenItsSocketIsRemoved(t *testing.T) {
	b := newBox(t)
	before := b.state()
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "PostDown = echo undone\n")).untilReady()
	b.sh("rm /var/run/wireguard/peer.sock")
	p.wants(1, "error: peer: the control socket's file was removed", "hint: without it neither show nor down", "undone\n")
	b.same(before)
}

func TestUpAndDownSayWhoHoldsAnInterfaceWithoutASocket(t *testing.T) {
	b := newBox(t)
	b.sh("mkdir -p /var/run/wireguard")
	tun, l := b.descriptors("peer")
	l.Close()
	b.sh("rm /var/run/wireguard/peer.sock")
	holder := exec.Command("sleep", "1000")
	holder.ExtraFiles = []*os.File{tun}
	if err := b.do(holder.Start); err != nil {
		t.Fatal(err)
	}
	defer func() { holder.Process.Kill(); holder.Wait() }()
	tun.Close()
	who := "hint: process " + strconv.Itoa(holder.Process.Pid) + " holds the interface"
	path := b.tunnelFile("peer.conf", "")
	b.start(nil, "stunnel", "up", path).wants(1, "peer", "busy", who, "ip link delete peer")
	b.start(nil, "stunnel", "down", "peer").wants(1, "peer is not running", who, "ip link delete peer")
	b.sh("ip link delete peer")
	p := b.start(nil, "stunnel", "up", path).untilReady()
	p.signal(unix.SIGTERM)
	p.wants(0)
}

func TestATunnelThatIsEndingIsKnown(t *testing.T) {
	b := newBox(t)
	fifo, runs := b.fifo("fifo")
	path := b.tunnelFile("peer.conf", "PostDown = echo > "+fifo+"; cat "+fifo+"\n")
	before := b.state()
	p := b.start(nil, "stunnel", "up", path).untilReady()
	first := b.start(nil, "stunnel", "down", "peer")
	runs()
	second := b.start(nil, "stunnel", "down", "peer")
	b.start(nil, "stunnel", "up", path).wants(1, "running already", "just ending", "PostDown", strconv.Itoa(p.Process.Pid))
	for _, down := range []*program{first, second} {
		waitFor(t, down, "waiting for the end of peer")
	}
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	first.wants(0, "peer is down")
	second.wants(0, "peer is down")
	p.wants(0)
	b.same(before)
}
