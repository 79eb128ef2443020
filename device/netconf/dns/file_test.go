package dns

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// machine is a directory with an etc/resolv.conf, and processes that can be ended.
type machine struct {
	t    *testing.T
	dir  string
	boot string
	dead map[int]bool
}

func newMachine(t *testing.T) *machine {
	m := &machine{t: t, dir: t.TempDir(), boot: "first", dead: make(map[int]bool)}
	for _, dir := range []string{"etc", "run/manager", "var"} {
		if err := os.MkdirAll(filepath.Join(m.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *machine) path() string { return filepath.Join(m.dir, "etc/resolv.conf") }

// process is the file as a process with that number sees it.
func (m *machine) process(pid int) *file {
	return &file{path: m.path(), dir: filepath.Join(m.dir, "var/stunnel"), boot: m.boot, pid: pid,
		alive: func(pid int, _ string) bool { return !m.dead[pid] }}
}

func (m *machine) write(text string) {
	m.t.Helper()
	if err := os.WriteFile(m.path(), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) read() string {
	m.t.Helper()
	text, err := os.ReadFile(m.path())
	if err != nil {
		m.t.Fatal(err)
	}
	return string(text)
}

// tree is all that is on the machine, byte for byte.
func (m *machine) tree() string {
	m.t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(m.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if path == filepath.Join(m.dir, "var/stunnel") {
			return nil // the directory alone may stay
		}
		fmt.Fprintf(&b, "%s %v", strings.TrimPrefix(path, m.dir), info.Mode())
		switch info.Mode().Type() {
		case 0:
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q", text)
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " -> %s", target)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return b.String()
}

func (m *machine) same(before string) {
	m.t.Helper()
	if after := m.tree(); after != before {
		m.t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// asks fails the test unless the file names these servers, in this order.
func (m *machine) asks(want ...string) {
	m.t.Helper()
	var got []string
	for _, s := range parse(m.read()).servers {
		got = append(got, s.String())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		m.t.Errorf("name servers are %v, want %v; the file is\n%s", got, want, m.read())
	}
}

func (m *machine) claim(pid int, s Settings) {
	m.t.Helper()
	if err := m.process(pid).claim(s); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) release(name string) (note string) {
	m.t.Helper()
	note, err := m.process(os.Getpid()).release(name, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	return note
}

func (m *machine) mend() (note string) {
	m.t.Helper()
	note, err := m.process(os.Getpid()).mend()
	if err != nil {
		m.t.Fatal(err)
	}
	return note
}

// tunnel is settings with one name server.
func tunnel(name, server string) Settings {
	return Settings{Interface: name, Servers: []netip.Addr{netip.MustParseAddr(server)}}
}

const lan = "nameserver 192.168.1.1\nsearch lan"

func TestTheFileComesBackByteForByte(t *testing.T) {
	for _, c := range []struct {
		what string
		make func(*testing.T, *machine) error
	}{
		{"a file", func(t *testing.T, m *machine) error { m.write(lan); return nil }},
		{"a file with another mode", func(t *testing.T, m *machine) error { m.write("# \xff\n"); return os.Chmod(m.path(), 0o755) }},
		{"an empty file", func(t *testing.T, m *machine) error { m.write(""); return nil }},
		{"a relative link", func(t *testing.T, m *machine) error {
			if err := os.Symlink("../run/manager/resolv.conf", m.path()); err != nil {
				return err
			}
			m.write(lan)
			return nil
		}},
		{"a link to a link in a linked directory", func(t *testing.T, m *machine) error {
			err := os.Symlink("run/manager", filepath.Join(m.dir, "short"))
			if err == nil {
				err = os.Symlink("../manager/truth", filepath.Join(m.dir, "run/manager/resolv.conf"))
			}
			if err == nil {
				err = os.Symlink(filepath.Join(m.dir, "short/resolv.conf"), m.path())
			}
			if err == nil {
				m.write(lan)
			}
			return err
		}},
		{"nothing", func(t *testing.T, m *machine) error { return nil }},
		{"a link to nothing", func(t *testing.T, m *machine) error { return os.Symlink("../run/manager/none", m.path()) }},
	} {
		t.Run(c.what, func(t *testing.T) {
			m := newMachine(t)
			if err := c.make(t, m); err != nil {
				t.Fatal(err)
			}
			before := m.tree()
			m.claim(1, tunnel("tun0", "10.9.0.1"))
			m.asks("10.9.0.1")
			if note := m.release("tun0"); note != "" {
				t.Error(note)
			}
			m.same(before)
			m.release("tun0") // once more does no harm
			m.same(before)
		})
	}
}

func TestALinkWhoseDirectoryIsMissingIsAnErrorThatNamesIt(t *testing.T) {
	m := newMachine(t)
	if err := os.Symlink("../run/gone/resolv.conf", m.path()); err != nil {
		t.Fatal(err)
	}
	before := m.tree()
	err := m.process(1).claim(tunnel("tun0", "10.9.0.1"))
	if err == nil || !strings.Contains(err.Error(), "run/gone/resolv.conf, whose directory is not there") {
		t.Error(err)
	}
	m.same(before)
}

func TestTheTunnelThatCameUpLastIsAskedInAnyOrderOfDowns(t *testing.T) {
	names := []string{"tun0", "tun1", "tun2"}
	orders := [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}
	for _, order := range orders {
		m := newMachine(t)
		m.write(lan)
		before := m.tree()
		var up []int
		for i, name := range names {
			m.claim(i+1, tunnel(name, fmt.Sprintf("10.9.%d.1", i)))
			up = append(up, i)
			m.asks(fmt.Sprintf("10.9.%d.1", i))
		}
		for _, down := range order {
			m.release(names[down])
			for j, i := range up {
				if i == down {
					up = append(up[:j], up[j+1:]...)
					break
				}
			}
			if len(up) > 0 {
				m.asks(fmt.Sprintf("10.9.%d.1", up[len(up)-1]))
			}
		}
		m.same(before)
	}
}

func TestTheSameNameInAnotherNamespaceIsAnotherTunnel(t *testing.T) {
	m := newMachine(t)
	m.write(lan)
	other := tunnel("tun0", "10.9.1.1")
	other.NetNS = 7
	m.claim(1, tunnel("tun0", "10.9.0.1"))
	m.claim(2, other)
	m.release("tun0")
	m.asks("10.9.1.1")
}

func TestDomainsAloneAreTriedBeforeTheOthers(t *testing.T) {
	m := newMachine(t)
	m.write("; of the network\nnameserver 192.168.1.1\nsearch lan home\noptions ndots:2\n")
	m.claim(1, Settings{Interface: "tun0", Search: []string{"corp.example"}})
	got := tell(parse(m.read()))
	if got != "[192.168.1.1] [corp.example lan home] [options ndots:2]" {
		t.Error(got)
	}
	// Name servers replace the others, and the domains that those know.
	s := tunnel("tun1", "10.9.0.1")
	s.Search = []string{"vpn.example"}
	m.claim(2, s)
	if got := tell(parse(m.read())); got != "[10.9.0.1] [vpn.example] []" {
		t.Error(got)
	}
}

func TestWhatAnotherProgramHasWrittenStays(t *testing.T) {
	const dhcp = "nameserver 172.16.0.1\n"
	m := newMachine(t)
	m.write(lan)
	m.claim(1, tunnel("tun0", "10.9.0.1"))
	m.write(dhcp)
	if note := m.release("tun0"); !strings.Contains(note, "changed by another program") || !strings.Contains(note, "/original") {
		t.Errorf("said %q", note)
	}
	if m.read() != dhcp {
		t.Error(m.read())
	}

	// A tunnel that comes up over it gives it back, not what was there before that.
	m.claim(1, tunnel("tun0", "10.9.0.1"))
	m.write(lan)
	m.claim(2, tunnel("tun1", "10.9.1.1"))
	m.asks("10.9.1.1")
	m.release("tun1")
	m.asks("10.9.0.1")
	if note := m.release("tun0"); note != "" {
		t.Error(note)
	}
	if m.read() != lan {
		t.Error(m.read())
	}

	// One that goes while another stays leaves it too.
	m.claim(1, tunnel("tun0", "10.9.0.1"))
	m.claim(2, tunnel("tun1", "10.9.1.1"))
	m.write(dhcp)
	m.release("tun1")
	m.release("tun0")
	if m.read() != dhcp {
		t.Error(m.read())
	}
}

func TestAFileThatWasDeletedIsNotMissed(t *testing.T) {
	m := newMachine(t)
	m.write(lan)
	m.claim(1, tunnel("tun0", "10.9.0.1"))
	if err := os.Remove(m.path()); err != nil {
		t.Fatal(err)
	}
	if note := m.release("tun0"); note == "" {
		t.Error("nothing was said")
	}
	if _, err := os.Stat(m.path()); err == nil {
		t.Error("it was made anew")
	}
}

func TestALinkToNowhereThatCameMeanwhileIsLeft(t *testing.T) {
	m := newMachine(t)
	m.write(lan)
	m.claim(1, tunnel("tun0", "10.9.0.1"))
	if err := errors.Join(os.Remove(m.path()), os.Symlink("/nowhere/resolv.conf", m.path())); err != nil {
		t.Fatal(err)
	}
	if note := m.release("tun0"); !strings.Contains(note, "changed by another program") {
		t.Errorf("it said %q", note)
	}
	m.dead[1] = true
	if note := m.mend(); note != "" {
		t.Errorf("it said %q", note)
	}
}

func TestWhatKilledTunnelsHaveLeftIsTakenOut(t *testing.T) {
	m := newMachine(t)
	m.write(lan)
	before := m.tree()
	if note := m.mend(); note != "" {
		t.Errorf("where nothing was to be done it said %q", note)
	}
	m.claim(1, tunnel("tun0", "10.9.0.1"))
	m.claim(2, tunnel("tun1", "10.9.1.1"))
	if note := m.mend(); note != "" {
		t.Errorf("of tunnels that live it said %q", note)
	}
	m.dead[2] = true
	if note := m.mend(); !strings.Contains(note, "tun1") {
		t.Errorf("it said %q", note)
	}
	m.asks("10.9.0.1")
	m.dead[1] = true
	if note := m.mend(); !strings.Contains(note, "tun0") {
		t.Errorf("it said %q", note)
	}
	m.same(before)
}

func TestADownTakesKilledTunnelsOutToo(t *testing.T) {
	m := newMachine(t)
	m.write(lan)
	before := m.tree()
	m.claim(1, tunnel("tun0", "10.9.0.1"))
	m.claim(2, tunnel("tun1", "10.9.1.1"))
	m.dead[1] = true
	m.release("tun1")
	m.same(before)
}

func TestAfterABootTheFileIsBroughtBack(t *testing.T) {
	m := newMachine(t)
	m.write(lan)
	before := m.tree()
	m.claim(1, tunnel("tun0", "10.9.0.1"))
	m.boot = "second" // process 1 is somebody else's now
	m.asks("10.9.0.1")
	if note := m.mend(); !strings.Contains(note, "tun0") {
		t.Errorf("it said %q", note)
	}
	m.same(before)
}

func TestAfterABootTheFileIsKnownByItsText(t *testing.T) {
	m := newMachine(t)
	m.write(lan)
	m.claim(1, tunnel("tun0", "10.9.0.1"))
	m.boot = "second"
	// Devices and inodes may have other numbers, as after a restore.
	old, err := filepath.Glob(filepath.Join(m.dir, "var/stunnel/resolv.conf-*"))
	if err != nil || len(old) != 1 {
		t.Fatal(old, err)
	}
	etc := filepath.Join(m.dir, "etc")
	if err := os.Rename(etc, etc+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(etc, os.DirFS(etc+".old")); err != nil {
		t.Fatal(err)
	}
	m.mend()
	if m.read() != lan {
		t.Error(m.read())
	}
}

func TestAfterABootWhatWasWrittenSinceStays(t *testing.T) {
	const dhcp = "nameserver 172.16.0.1\n"
	m := newMachine(t)
	m.write(lan)
	m.claim(1, tunnel("tun0", "10.9.0.1"))
	m.boot = "second"
	m.write(dhcp)
	m.mend()
	if m.read() != dhcp {
		t.Error(m.read())
	}
}

func TestUpstreamIsWhatWasThereBefore(t *testing.T) {
	m := newMachine(t)
	upstream := func(want string) {
		t.Helper()
		got, err := m.process(1).upstream()
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%v, %v, want %s", got, err, want)
		}
	}
	upstream("[127.0.0.1]") // as the C library has it
	m.write(lan + "\nnameserver fe80::1%eth0\n")
	upstream("[192.168.1.1 fe80::1%eth0]")
	m.claim(1, tunnel("tun0", "10.9.0.1"))
	m.claim(2, tunnel("tun1", "10.9.1.1"))
	upstream("[192.168.1.1 fe80::1%eth0]")
	m.write("nameserver 172.16.0.1\n") // another network
	upstream("[172.16.0.1]")
}
