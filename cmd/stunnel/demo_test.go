package main

import (
	"bytes"
	"errors"
	"hash/maphash"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDemoShowsATunnelAndLeavesNothing(t *testing.T) {
	b := newBox(t)
	before := b.state()
	p := b.start(nil, "stunnel", "demo", "--size", "3M")
	p.wants(0, "alice: ready", "bob: ready", "first handshake peer=bob", "first handshake peer=alice", "alice: going down", "bob: going down",
		"the peer speaks our extensions peer=alice", "the peer speaks our extensions peer=bob", "the peer says that it goes down")
	b.same(before)
}

func TestDemoNeedsNoRootWhereUserNamespacesAreAllowed(t *testing.T) {
	b := newBox(t)
	copied := b.forEverybody()
	as := programVariable + "=1 setpriv --reuid 65534 --regid 65534 --clear-groups "
	out := b.sh("cat /proc/sys/user/max_user_namespaces; " + as + "unshare --user --map-root-user true && echo allowed || echo forbidden")
	out2 := b.sh(as + copied + " demo --size 1M 2>&1 || echo failed with $?")
	switch {
	case strings.HasSuffix(out, "allowed\n") && (!strings.Contains(out2, "50 of 50 answered") ||
		!strings.Contains(out2, "bob speaks     stunnel "+version+" (echo, fragments, probes, trusted checksums)")):
		t.Errorf("demo as an ordinary user:\n%s", out2)
	case strings.HasSuffix(out, "forbidden\n") && !strings.Contains(out2, "stunnel: hint: sudo stunnel demo"):
		t.Errorf("demo where user namespaces are forbidden gives no hint:\n%s", out2)
	}
}

func TestDemoSaysWhichSwitchForbidsIt(t *testing.T) {
	dir := t.TempDir()
	off := filepath.Join(dir, "max_user_namespaces")
	if err := os.WriteFile(off, []byte("0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	saved := obstacles
	defer func() { obstacles = saved }()
	obstacles = []obstacle{{off, "0", "sudo sysctl it=1"}, {filepath.Join(dir, "none"), "0", "never said"}}
	err := explainNamespaces(&os.SyscallError{Syscall: "clone", Err: unix.ENOSPC})
	var said bytes.Buffer
	report(&said, err)
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(said.String(), off+" is 0") || !strings.Contains(said.String(), "sudo sysctl it=1") {
		t.Errorf("said %s", said.String())
	}
}

func TestTheEndOfTheDemoIsTheEndOfItsHosts(t *testing.T) {
	for _, end := range []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGKILL} {
		b := newBox(t)
		// Far more than it will send: it is ended on the way.
		p := b.start([]string{"STUNNEL_DEMO_MARK=" + b.dir}, "stunnel", "demo", "--size", "1000000G")
		waitFor(t, p, "over TCP")
		hosts := marked(t, b.dir)
		if len(hosts) < 4 {
			t.Errorf("%d processes, want the demo, its inside and two hosts: %v", len(hosts), hosts)
		}
		p.signal(end)
		<-p.ended // when all that has its stderr has ended
		if end != unix.SIGKILL {
			p.wants(1, "interrupted", "alice: going down", "bob: going down")
		}
		if left := marked(t, b.dir); len(left) > 0 {
			t.Errorf("%v leaves %v", end, left)
		}
	}
}

func TestTheDemoIsInterruptedBeforeItHasBegun(t *testing.T) {
	for range 5 {
		b := newBox(t)
		p := b.start([]string{"STUNNEL_DEMO_MARK=" + b.dir}, "stunnel", "demo", "--size", "1M")
		for late := time.Now().Add(patience); len(marked(t, b.dir)) < 2; { // its inside has just been made
			if time.Now().After(late) {
				t.Fatal("the demo has no inside")
			}
		}
		p.signal(unix.SIGTERM)
		p.wants(1, "error: the demo was interrupted; nothing is left of it")
	}
}

// marked lists the processes that were started with that mark in their environment.
func marked(t *testing.T, mark string) (pids []string) {
	t.Helper()
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range environments {
		env, err := os.ReadFile(path) // an error: it has ended
		if err == nil && bytes.Contains(env, []byte("STUNNEL_DEMO_MARK="+mark+"\x00")) {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	return pids
}

func TestASizeIsANumberOfBytes(t *testing.T) {
	for text, want := range map[string]int64{"1": 1, "5k": 5000, "5K": 5000, "100M": 100e6, "1G": 1e9} {
		if got, err := parseSize(text); got != want || err != nil {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "-1", "G", "1T", "1.5G", "99999999999G", "1 M"} {
		if got, err := parseSize(text); exitStatus(err) != exitUsage || err == nil {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

func TestTheSenderSendsExactlyWhatItHashes(t *testing.T) {
	for _, size := range []int64{1, 7, chunkSize - 1, chunkSize, 3*chunkSize + 5} {
		var sent, again maphash.Hash
		again.SetSeed(sent.Seed())
		var out bytes.Buffer
		if err := send(&out, &sent, size); err != nil {
			t.Fatal(err)
		}
		again.Write(out.Bytes())
		if int64(out.Len()) != size || sent.Sum64() != again.Sum64() {
			t.Errorf("size %d: %d bytes, hashes equal: %v", size, out.Len(), sent.Sum64() == again.Sum64())
		}
	}
}

func TestFateOfADaemon(t *testing.T) {
	for script, want := range map[string]int{"exit 1": exitFailed, "exit 2": exitUsage, "exit 0": exitFailed, "kill -9 $$": exitFailed} {
		err := fate(exec.Command("sh", "-c", script).Run())
		if err == nil || exitStatus(err) != want {
			t.Errorf("%s: %v, status %d", script, err, exitStatus(err))
		}
	}
}
