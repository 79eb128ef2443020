package dns

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// inMountNamespace runs test where mounts are its own.
func inMountNamespace(t *testing.T, test func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount: run the tests with sudo")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the namespace ends with the thread
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			t.Errorf("unshare: %v", err)
			return
		}
		if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Errorf("mount: %v", err)
			return
		}
		test()
	}()
	<-done
}

func mount(t *testing.T, source, target string, flags uintptr) {
	if err := unix.Mount(source, target, "", flags, ""); err != nil {
		t.Errorf("mount %s at %s: %v", source, target, err)
		runtime.Goexit()
	}
}

func TestAMountIsWrittenInPlace(t *testing.T) {
	inMountNamespace(t, func() {
		m := newMachine(t)
		m.write("what lies below\n")
		host := filepath.Join(m.dir, "run/manager/of-the-host")
		if err := os.WriteFile(host, []byte(lan), 0o644); err != nil {
			t.Error(err)
			return
		}
		mount(t, host, m.path(), unix.MS_BIND)
		inode := inodeOf(t, m.path())
		m.claim(1, tunnel("tun0", "10.9.0.1"))
		m.asks("10.9.0.1")
		if inodeOf(t, m.path()) != inode {
			t.Error("it was replaced")
		}
		m.release("tun0")
		if m.read() != lan {
			t.Error(m.read())
		}
	})
}

func TestTwoMountsOverTheSameFileDoNotMeet(t *testing.T) {
	inMountNamespace(t, func() {
		m := newMachine(t)
		m.write("nameserver 172.16.0.1\n")
		m.claim(1, tunnel("tun0", "10.9.0.1"))
		other := filepath.Join(m.dir, "run/manager/other")
		if err := os.WriteFile(other, []byte(lan), 0o644); err != nil {
			t.Error(err)
			return
		}
		mount(t, other, m.path(), unix.MS_BIND)
		s := tunnel("tun0", "10.9.1.1")
		s.NetNS = 7
		m.claim(2, s)
		m.asks("10.9.1.1")
		m.dead[1] = true // not in sight from here
		if note := m.mend(); note != "" {
			t.Error(note)
		}
		if _, err := m.process(2).release("tun0", 7); err != nil || m.read() != lan {
			t.Error(m.read(), err)
		}
		if err := unix.Unmount(m.path(), 0); err != nil {
			t.Error(err)
			return
		}
		m.asks("10.9.0.1")
		m.mend()
		m.asks("172.16.0.1")
	})
}

func TestAReadOnlyDirectoryIsWrittenInPlace(t *testing.T) {
	inMountNamespace(t, func() {
		m := newMachine(t)
		m.write(lan)
		etc := filepath.Join(m.dir, "etc")
		mount(t, etc, etc, unix.MS_BIND)
		mount(t, m.path(), m.path(), unix.MS_BIND) // stays writable
		mount(t, "none", etc, unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY)
		m.claim(1, tunnel("tun0", "10.9.0.1"))
		m.asks("10.9.0.1")
		m.release("tun0")
		if m.read() != lan {
			t.Error(m.read())
		}
	})
}

func TestAReadOnlyFileIsAnErrorAndStaysAsItIs(t *testing.T) {
	inMountNamespace(t, func() {
		m := newMachine(t)
		m.write(lan)
		etc := filepath.Join(m.dir, "etc")
		mount(t, etc, etc, unix.MS_BIND)
		mount(t, "none", etc, unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY)
		before := m.tree()
		if err := m.process(1).claim(tunnel("tun0", "10.9.0.1")); err == nil {
			t.Error("no error")
		}
		if _, err := m.process(1).release("tun0", 0); err != nil {
			t.Error(err)
		}
		m.same(before)
	})
}

func inodeOf(t *testing.T, path string) uint64 {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Error(err)
	}
	return st.Ino
}
