package main

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestUserspaceReturnsWhenInterfaceAndSocketAreReady(t *testing.T) {
	for _, args := range [][]string{{"stunnel", "userspace", "wg0"}, {"/usr/bin/wireguard-go", "wg0"}} {
		b := newBox(t)
		b.sh("mkdir -p /var/run/wireguard")
		before := b.state()
		b.start(nil, args...).wants(0)
		// Not a moment is given to it, as a script gives none.
		out := b.sh(`wg set wg0 listen-port 4711 private-key <(wg genkey); ip addr add 10.5.0.1/24 dev wg0; ip link set wg0 up; wg show wg0 listen-port
			cat /sys/class/net/wg0/mtu 2>/dev/null || ip -br link show wg0; ip link show wg0`)
		if !strings.HasPrefix(out, "4711\n") || !strings.Contains(out, "mtu 1420") {
			t.Errorf("%v: %s", args, out)
		}
		ended := gone(t, b.pidOf("wg0"))
		b.sh("ip link delete wg0")
		ended()
		b.same(before)
	}
}

func TestUserspaceEndsWhenItsSocketIsRemoved(t *testing.T) {
	b := newBox(t)
	b.sh("mkdir -p /var/run/wireguard")
	before := b.state()
	b.start(nil, "stunnel", "userspace", "wg0").wants(0)
	ended := gone(t, b.pidOf("wg0"))
	b.sh("rm /var/run/wireguard/wg0.sock")
	ended()
	b.same(before)
}

func TestUserspaceInTheForegroundEndsWithZero(t *testing.T) {
	for name, c := range map[string]struct {
		env  []string
		args []string
		end  func(b *box, p *program)
	}{
		"SIGTERM":      {nil, []string{"-f"}, func(_ *box, p *program) { p.signal(unix.SIGTERM) }},
		"SIGINT":       {nil, []string{"--foreground"}, func(_ *box, p *program) { p.signal(unix.SIGINT) }},
		"link":         {[]string{"WG_PROCESS_FOREGROUND=1"}, nil, func(b *box, _ *program) { b.sh("ip link delete wg0") }},
		"socket":       {nil, []string{"-f"}, func(b *box, _ *program) { b.sh("rm /var/run/wireguard/wg0.sock") }},
		"stop request": {nil, []string{"-f"}, func(b *box, _ *program) { b.start(nil, "stunnel", "down", "wg0").wants(0) }},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.sh("mkdir -p /var/run/wireguard")
			before := b.state()
			names := filepath.Join(b.dir, "names")
			if err := unix.Mkfifo(names, 0o600); err != nil {
				t.Fatal(err)
			}
			p := b.start(append(c.env, "WG_TUN_NAME_FILE="+names), append([]string{"stunnel", "userspace", "wg0"}, c.args...)...)
			// The name comes when the socket is there.
			if got, err := os.ReadFile(names); string(got) != "wg0\n" {
				t.Fatalf("WG_TUN_NAME_FILE: %q, %v\n%s", got, err, p.said())
			}
			c.end(b, p)
			p.wants(0)
			b.same(before)
		})
	}
}

func TestUserspaceTakesDescriptors(t *testing.T) {
	for _, mode := range []string{"-f", ""} {
		b := newBox(t)
		b.sh("mkdir -p /var/run/wireguard")
		before := b.state()
		tun, l := b.descriptors("wg7")
		args := []string{"stunnel", "userspace", "wg7"}
		if mode != "" {
			args = append(args, mode)
		}
		p := b.startFiles([]string{"WG_TUN_FD=3", "WG_UAPI_FD=4"}, []*os.File{tun, l}, args...)
		tun.Close()
		l.Close()
		if mode == "" {
			p.wants(0)
		}
		// The socket has listened all the time: this waits for the program in any case.
		if got := strings.TrimSpace(b.sh("wg set wg7 fwmark 17; wg show wg7 fwmark")); got != "0x11" {
			t.Errorf("fwmark %s", got)
		}
		ended := gone(t, b.pidOf("wg7"))
		b.sh("ip link delete wg7")
		ended()
		b.same(before)
	}
}

// descriptors makes a TUN interface and a listening control socket, as a supervisor of ours would.
func (b *box) descriptors(name string) (tun, l *os.File) {
	b.t.Helper()
	err := b.do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		tun = os.NewFile(uintptr(fd), "tun")
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
			return err
		}
		listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: "/var/run/wireguard/" + name + ".sock", Net: "unix"})
		if err != nil {
			return err
		}
		listener.SetUnlinkOnClose(false)
		l, err = listener.File()
		listener.Close()
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return tun, l
}

func TestUserspaceSaysWhatIsWrongWithADescriptor(t *testing.T) {
	b := newBox(t)
	b.start([]string{"WG_TUN_FD=x"}, "stunnel", "userspace", "wg0").wants(1, "WG_TUN_FD")
	b.start([]string{"WG_TUN_FD=77"}, "stunnel", "userspace", "wg0").wants(1, "WG_TUN_FD", "77")
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	b.startFiles([]string{"WG_TUN_FD=3"}, []*os.File{null}, "stunnel", "userspace", "wg0").wants(1, "WG_TUN_FD is 3", "/dev/net/tun")
	b.startFiles([]string{"WG_UAPI_FD=3"}, []*os.File{null}, "stunnel", "userspace", "wg0").wants(1, "WG_UAPI_FD is 3", "control socket")
}

func TestUserspaceGoesOnInAnotherNamespace(t *testing.T) {
	b, other := newBox(t), newBox(t)
	var ns *os.File
	err := other.do(func() (err error) {
		ns, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	b.start(nil, "stunnel", "userspace", "wg0").wants(0)
	b.sh("ip link set wg0 netns /proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(int(ns.Fd())))
	other.sh("ip addr add 10.5.0.1/24 dev wg0; ip link set wg0 up")
	// The sockets stay where the program is, and are open because the link is up, elsewhere.
	b.sh("wg set wg0 listen-port 4711 private-key <(wg genkey); for i in {1..100}; do ss -lun | grep -q :4711 && exit; sleep .1; done; ss -lun; exit 1")
	ended := gone(t, b.pidOf("wg0"))
	other.sh("ip link delete wg0")
	ended()
	runtime.KeepAlive(ns)
}

func TestAnOrdinaryUserRunsHisPersistentInterface(t *testing.T) {
	b := newBox(t)
	b.sh("ip tuntap add dev mine mode tun user 65534; mkdir -p /var/run/wireguard; chown 65534 /var/run/wireguard")
	before := b.state()
	copied := b.forEverybody()
	b.sh(programVariable + "=1 setpriv --reuid 65534 --regid 65534 --clear-groups " + copied + " userspace mine")
	out := b.sh("wg set mine listen-port 4711 private-key <(wg genkey); wg show mine listen-port; stat -c %u /proc/" + strconv.Itoa(b.pidOf("mine")))
	if out != "4711\n65534\n" {
		t.Errorf("port and user: %s", out)
	}
	ended := gone(t, b.pidOf("mine"))
	b.sh("kill " + strconv.Itoa(b.pidOf("mine")))
	ended()
	b.same(before)
}

func TestASecondUserspaceOfTheSameNameIsRefused(t *testing.T) {
	b := newBox(t)
	b.start(nil, "stunnel", "userspace", "wg0").wants(0)
	b.start(nil, "stunnel", "userspace", "wg0").wants(1, "is running already")
	b.start(nil, "stunnel", "down", "wg0").wants(0)
}

func TestTheLevelOfUserspaceIsWireguardGos(t *testing.T) {
	for value, want := range map[string]string{"": "ERROR", "error": "ERROR", "verbose": "DEBUG", "debug": "DEBUG", "nonsense": "ERROR", "silent": "ERROR+100"} {
		t.Setenv("LOG_LEVEL", value)
		if got := userspaceLevel().String(); got != want {
			t.Errorf("LOG_LEVEL=%s: %s, want %s", value, got, want)
		}
	}
}
