package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stunnel/cmd/internal/control"
	"stunnel/crypto"
)

// pidOf is the process that serves the control socket of an interface on the host.
func (b *box) pidOf(name string) (pid int) {
	b.t.Helper()
	err := b.do(func() error {
		c, err := control.Dial(name)
		if err != nil {
			return err
		}
		defer c.Close()
		pid = c.PID()
		return nil
	})
	if err != nil || pid == 0 {
		b.t.Fatalf("who runs %s: %d, %v", name, pid, err)
	}
	return pid
}

func TestUpMakesWhatTheFileSaysAndASignalTakesItAway(t *testing.T) {
	for _, end := range []os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP} {
		b := newBox(t)
		before := b.state()
		p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "ListenPort = 4711\nMTU = 1400\n")).untilReady()
		state := b.state() + b.sh("ip link show dev peer; ip route; ip -6 route")
		for _, want := range []string{"10.5.0.1/24", "fd05::1/64", "mtu 1400", "10.6.0.0/16 dev peer", "fd06::/32 dev peer", "peer.sock"} {
			if !strings.Contains(state, want) {
				t.Errorf("no %q:\n%s", want, state)
			}
		}
		if strings.Contains(state, "10.5.0.2 dev peer") {
			t.Errorf("a route that the connected one covers already:\n%s", state)
		}
		p.signal(end)
		p.wants(0, "address 10.5.0.1/24", "address fd05::1/64", "MTU 1400", "route 10.6.0.0/16", "route fd06::/32", "UDP port 4711")
		b.same(before)
	}
}

func TestUpEndsWhenTheControlSocketAsks(t *testing.T) {
	b := newBox(t)
	before := b.state()
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "")).untilReady()
	down := b.start(nil, "stunnel", "down", "peer")
	down.wants(0, "peer is down")
	b.same(before) // when down has returned, not some time later
	p.wants(0)
}

func TestATerminalThatIsClosedLiftsNoKillSwitch(t *testing.T) {
	b := newBox(t)
	before := b.state()
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "KillSwitch = yes\n")).untilReady()
	p.signal(unix.SIGHUP)
	p.wants(0, "ended with its terminal", "the kill switch stays in force")
	b.start(nil, "stunnel", "show").wants(0, "the kill switch of peer is in force, and its tunnel does not run")
	b.start(nil, "stunnel", "down", "peer").wants(0, "kill switch", "peer is down")
	b.start(nil, "stunnel", "unlock").wants(0, "no kill switch is in force")
	b.same(before)
}

func TestDownSaysWhatTheTunnelCouldNotTakeBack(t *testing.T) {
	b := newBox(t)
	before := b.state()
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "Table = auto\n[Peer]\nPublicKey = "+strings.Repeat("B", 42)+"A=\nAllowedIPs = 0.0.0.0/0, ::/0\n")).untilReady()
	b.sh("mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys")
	b.start(nil, "stunnel", "down", "peer").wants(1, "peer was not taken back: sysctl net.ipv4.conf.all.src_valid_mark = 1", "stunnel down peer tries again")
	p.wants(1, "read-only")
	b.sh("umount /proc/sys")
	b.start(nil, "stunnel", "down", "peer").wants(0, "peer is down")
	b.same(before)
}

func TestTheLossOfItsInterfaceEndsUpWithAnError(t *testing.T) {
	b := newBox(t)
	before := b.state()
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "PreDown = echo before\nPostDown = echo afterwards\n")).untilReady()
	b.sh("ip link delete peer")
	p.wants(1, "peer was deleted", "before\n", "afterwards\n") // what PreUp and PostUp did outside must be taken back
	b.same(before)
}

func TestHooksRunInOrderWithTheNameOfTheInterface(t *testing.T) {
	b := newBox(t)
	log := filepath.Join(b.dir, "hooks")
	note := func(word string) string {
		return word + " = ip -br addr show dev %i | sed 's/^/" + word + " %i /' >> " + log + "; echo said by " + word + "; wg show %i listen-port >> " + log + "\n"
	}
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf",
		"ListenPort = 4711\nPreUp = echo first > "+log+"\n"+note("PreUp")+note("PostUp")+note("PreDown")+
			"PostDown = ip link show %i 2>/dev/null || echo PostDown gone >> "+log+" # as wg-quick has it\n")).untilReady()
	p.signal(unix.SIGTERM)
	p.wants(0, "said by PreUp", "said by PostUp", "said by PreDown")
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) > 3 && strings.Contains(line, "10.5.0.1") {
			f = append(f[:2], "with address")
		} else if len(f) > 2 {
			f = f[:2]
		}
		got = append(got, strings.Join(f, " "))
	}
	want := "first, PreUp peer, 0, PostUp peer with address, 4711, PreDown peer with address, 4711, PostDown gone"
	if strings.Join(got, ", ") != want {
		t.Errorf("hooks: %s\nwant   %s\n%s", strings.Join(got, ", "), want, text)
	}
}

func TestAFailureAtAnyStepLeavesNothingBehind(t *testing.T) {
	key := crypto.NewPrivateKey().Base64()
	for name, c := range map[string]struct {
		prepare string   // on the host
		file    string   // "" is a file of tunnelFile with more
		more    string   // for [Interface]
		words   []string // of the error
	}{
		"PreUp":              {more: "PreUp = exit 3\n", words: []string{"PreUp", "exit 3", "exit status 3"}},
		"PreUp in a pipe":    {more: "PreUp = false | true\n", words: []string{"PreUp", "exit status 1"}},
		"PreUp before a ;":   {more: "PreUp = false; true\n", words: []string{"PreUp", "exit status 1"}},
		"PostUp":             {more: "PostUp = ip addr show dev %i; false\n", words: []string{"PostUp", "exit status 1"}},
		"a key in a hook":    {more: "PreUp = false " + key + "\n", words: []string{"PreUp", "(key)"}},
		"MTU":                {more: "MTU = 65536\n", words: []string{"65536"}},
		"route":              {prepare: "ip link add eth0 type veth; ip link set eth0 up; ip route add 10.6.0.0/16 dev eth0", words: []string{"10.6.0.0/16", "eth0", "peer"}},
		"IPv6 route":         {prepare: "ip link add eth0 type veth; ip link set eth0 up; ip -6 route add fd06::/32 dev eth0", words: []string{"fd06::/32", "eth0", "peer"}},
		"IPv6 off":           {prepare: "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6", words: []string{"IPv6", "disable_ipv6"}},
		"other interface":    {prepare: "ip link add peer type veth", words: []string{"peer", "veth"}},
		"file in the way":    {prepare: "mkdir -p /var/run/wireguard/peer.sock", words: []string{"peer.sock"}},
		"no key after hooks": {file: "[Interface]\nPostUp = true\n", words: []string{"private key"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.sh(c.prepare)
			path := filepath.Join(b.dir, "peer.conf")
			if c.file != "" {
				b.file("peer.conf", c.file)
			} else {
				b.tunnelFile("peer.conf", c.more)
			}
			b.sh("mkdir -p /var/run/wireguard")
			before := b.state()
			p := b.start(nil, "stunnel", "up", path)
			p.wants(1, c.words...)
			if strings.Contains(p.said(), key) {
				t.Errorf("the key is in the error:\n%s", p.said())
			}
			b.same(before)
		})
	}
}

func TestIPv6ThatIsSwitchedOffIsNoLackOfRights(t *testing.T) {
	b := newBox(t)
	b.sh("for f in all default; do echo 1 > /proc/sys/net/ipv6/conf/$f/disable_ipv6; done; mkdir -p /var/run/wireguard")
	before := b.state()
	routeOnly := "[Interface]\nPrivateKey = " + crypto.NewPrivateKey().Base64() + "\nAddress = 10.5.0.1/24\n[Peer]\nPublicKey = " +
		crypto.NewPrivateKey().Public().String() + "\nAllowedIPs = fd06::/32\n"
	for _, path := range []string{b.tunnelFile("peer.conf", ""), b.file("route.conf", routeOnly)} {
		p := b.start(nil, "stunnel", "up", path)
		p.wants(1, "hint: take IPv6 out", "sysctl -w net.ipv6.conf.all.disable_ipv6=0")
		if strings.Contains(p.said(), "CAP_NET_ADMIN") {
			t.Errorf("root has the right:\n%s", p.said())
		}
		b.same(before)
	}
	b.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=0") // the advice is good
	p := b.start(nil, "stunnel", "up", filepath.Join(b.dir, "peer.conf")).untilReady()
	p.signal(unix.SIGTERM)
	p.wants(0)
}

func TestAPortThatIsTakenIsSaidAndNothingIsLeft(t *testing.T) {
	b := newBox(t)
	var c net.PacketConn
	err := b.do(func() (err error) {
		c, err = net.ListenPacket("udp", "[::]:4711")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b.sh("mkdir -p /var/run/wireguard")
	before := b.state()
	b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "ListenPort = 4711\n")).wants(1, "error: listen on UDP port 4711: the port is used by another program: address already in use\n", "ListenPort")
	b.same(before)
}

func TestAPortOfAnotherTunnelIsRefusedInWords(t *testing.T) {
	b := newBox(t)
	first := b.start(nil, "stunnel", "up", b.tunnelFile("first.conf", "ListenPort = 4711\n")).untilReady()
	before := b.state()
	second := b.tunnelFile("second.conf", "ListenPort = 4711\n")
	words := []string{"ListenPort = 4711 is the UDP port of the interface first, which runs", "hint: each tunnel needs another ListenPort"}
	b.start(nil, "stunnel", "up", second).wants(1, words...)
	b.start(nil, "stunnel", "check", second).wants(1, words...)
	b.same(before)
	b.start(nil, "stunnel", "check", filepath.Join(b.dir, "first.conf")).wants(0)
	b.start(nil, "stunnel", "check", b.tunnelFile("third.conf", "ListenPort = 4712\n")).wants(0)
	b.start(nil, "stunnel", "down", "first").wants(0)
	first.wants(0)
	b.start(nil, "stunnel", "check", second).wants(0)
}

func TestATunnelListensWhereTheFileSaysAndNowhereElse(t *testing.T) {
	b := newBox(t)
	b.sh("ip link add eth1 type veth peer name eth2; ip link set eth1 up; ip link set eth2 up; ip addr add 192.0.2.1/24 dev eth1; ip -6 addr add fe80::77/64 dev eth1 nodad")
	for _, c := range []struct{ keys, want string }{
		{"ListenAddress = 192.0.2.1\n", "192.0.2.1:4711"},
		{"ListenAddress = 192.0.2.1\nBindDevice = eth1\n", "192.0.2.1%eth1:4711"},
		{"BindDevice = eth1\n", "*%eth1:4711"},
		{"ListenAddress = fe80::77\nBindDevice = eth1\n", "[fe80::77]%eth1:4711"},
	} {
		p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "ListenPort = 4711\nListenTCP = 4711\nLanes = 1\n"+c.keys)).untilReady()
		for _, network := range []string{"-u", "-t"} {
			got := strings.TrimSpace(b.sh("ss -Hln " + network + " sport = :4711 | awk '{print $4}'"))
			if got = strings.Replace(got, "[::ffff:192.0.2.1]", "192.0.2.1", 1); got != c.want { // an IPv6 socket speaks IPv4 too
				t.Errorf("%sit listens at %q, want %q (ss %s)", c.keys, got, c.want, network)
			}
		}
		b.start(nil, "stunnel", "down", "peer").wants(0)
		p.wants(0)
	}
	b.sh("mkdir -p /var/run/wireguard")
	before := b.state()
	b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "ListenAddress = 192.0.2.9\n")).wants(1, "192.0.2.9 is no address of this host")
	b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "BindDevice = eth7\n")).wants(1, `there is no network device "eth7"`)
	b.same(before)
}

func TestASignalDuringTheWayUpTakesBackWhatWasDone(t *testing.T) {
	b := newBox(t)
	fifo := filepath.Join(b.dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	before := b.state()
	// Opening a fifo waits for the other side: so we know that the hook runs, and it never ends by itself.
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "PostUp = echo > "+fifo+"; read x < "+fifo+"\n"))
	if _, err := os.ReadFile(fifo); err != nil {
		t.Fatal(err)
	}
	p.signal(unix.SIGTERM)
	p.wants(1, "error: peer: interrupted before it was ready: PostUp", "ended by a signal") // `up && next` must not go on
	if n := strings.Count(p.said(), "stunnel: error:"); n != 1 {
		t.Errorf("%d errors, want one:\n%s", n, p.said())
	}
	b.same(before)
}

func TestAnEndpointThatNobodyKnowsYetDoesNotKeepTheTunnelFromComingUp(t *testing.T) {
	b := newBox(t)
	b.sh("mkdir -p /var/run/wireguard")
	before := b.state()
	// There is no network, so no name server.
	p := b.start(nil, "stunnel", "up", b.file("peer.conf", "[Interface]\nPrivateKey = "+crypto.NewPrivateKey().Base64()+
		"\n[Peer]\nPublicKey = "+crypto.NewPrivateKey().Public().String()+"\nEndpoint = vpn.example.com:1\nAllowedIPs = 10.0.0.2/32\n")).untilReady()
	b.start(nil, "stunnel", "down", "peer").wants(0)
	p.wants(0, "warning: the name of an endpoint can't be resolved; it is asked for again and again", "vpn.example.com")
	b.same(before)
}

func TestAPeerThatIsOurselvesIsTold(t *testing.T) {
	b := newBox(t)
	key := crypto.NewPrivateKey()
	b.file("key", key.Base64())
	text := "[Interface]\nAddress = 10.5.0.1/24\n%s = wg set %%i private-key " + filepath.Join(b.dir, "key") +
		"\n[Peer]\nName = mirror\nPublicKey = " + key.Public().String() + "\nAllowedIPs = 10.5.0.2/32\n"
	for _, hook := range []string{"PreUp", "PostUp"} {
		p := b.start(nil, "stunnel", "up", b.file("peer.conf", fmt.Sprintf(text, hook))).untilReady()
		p.signal(unix.SIGTERM)
		p.wants(0, "warning: this peer has our own public key", "peer=mirror")
	}
}

func TestANarrowWayDoesNotCostIPv6(t *testing.T) {
	b := newBox(t)
	b.sh("ip link add eth0 type veth; ip link set eth0 up; ip addr add 192.0.2.1/24 dev eth0; ip route add 192.0.2.9/32 dev eth0 mtu 1300")
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "")).untilReady()
	if state := b.state() + b.sh("ip link show dev peer"); !strings.Contains(state, "fd05::1/64") || !strings.Contains(state, "mtu 1280") {
		t.Errorf("IPv6 is gone:\n%s", state)
	}
	p.signal(unix.SIGTERM)
	p.wants(0, "warning", "1220", "1280")
}

func TestASecondUpSaysThatItIsRunning(t *testing.T) {
	b := newBox(t)
	path := b.tunnelFile("peer.conf", "")
	b.start(nil, "stunnel", "up", path).untilReady()
	before := b.state()
	b.start(nil, "stunnel", "up", path).wants(1, "peer is running already", "stunnel down peer")
	b.same(before)
}

func TestAPersistentInterfaceIsLeftAsItWasFound(t *testing.T) {
	b := newBox(t)
	b.sh(`ip tuntap add dev peer mode tun; ip link set peer mtu 1300; ip addr add 10.5.0.1/24 dev peer
		ip addr add 10.99.0.1/24 dev peer; ip addr add fd99::1/64 dev peer; mkdir -p /var/run/wireguard`)
	before := b.state()
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "")).untilReady()
	p.signal(unix.SIGTERM)
	p.wants(0)
	b.same(before)
}

func TestDetachReturnsWhenAllIsThere(t *testing.T) {
	b := newBox(t)
	before := b.state()
	log := filepath.Join(b.dir, "log")
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "PostDown = echo hooks are heard\n"), "--detach", "--log-file", log)
	p.wants(0, "address 10.5.0.1/24", ": ready")
	state := b.state()
	for _, want := range []string{"10.5.0.1/24", "fd05::1/64", "10.6.0.0/16 dev peer", "fd06::/32 dev peer", "peer.sock"} {
		if !strings.Contains(state, want) {
			t.Errorf("no %q:\n%s", want, state)
		}
	}
	pid := b.pidOf("peer")
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("session %d of the process %d, %v", sid, pid, err)
	}
	if cwd, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/cwd"); cwd != "/" {
		t.Errorf("working directory %s, %v", cwd, err)
	}
	if comm, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm"); string(comm) != "stunnel\n" {
		t.Errorf("the process is called %s, %v", comm, err)
	}
	for _, fd := range []string{"0", "1", "2"} {
		if open, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/fd/" + fd); open != "/dev/null" {
			t.Errorf("descriptor %s is %s, %v", fd, open, err)
		}
	}
	ended := gone(t, pid)
	if err := unix.Kill(pid, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended()
	b.same(before)
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	wantWords(t, string(text), "peer: address 10.5.0.1/24\n", "peer: ready\n", "peer: going down", "hooks are heard")
}

func TestTheSystemLogHasTheStartToo(t *testing.T) {
	b := newBox(t)
	var l *net.UnixConn
	err := b.do(func() (err error) {
		l, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "/var/run/log", Net: "unixgram"})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b.sh("if [ -e /dev/log ]; then mount --bind /var/run/log /dev/log; fi")
	b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", ""), "--detach").wants(0, ": ready")
	l.SetReadDeadline(time.Now().Add(patience))
	var said strings.Builder
	for buf := make([]byte, 4096); !strings.Contains(said.String(), ": ready"); said.WriteByte('\n') {
		n, err := l.Read(buf)
		if err != nil {
			t.Fatalf("%v after\n%s", err, &said)
		}
		said.Write(buf[:n])
	}
	wantWords(t, said.String(), "stunnel[", "peer: address 10.5.0.1/24")
	b.start(nil, "stunnel", "down", "peer").wants(0)
}

func TestDetachWithoutALogSaysThatLinesAreLost(t *testing.T) {
	b := newBox(t)
	b.sh("if [ -e /dev/log ]; then mount --bind /dev/null /dev/log; fi")
	path := b.tunnelFile("peer.conf", "")
	b.start(nil, "stunnel", "up", path, "--detach").wants(0, "warning: this host has no system log", "--log-file")
	b.start(nil, "stunnel", "down", "peer").wants(0)
	p := b.start(nil, "stunnel", "up", path, "--detach", "--log-file", filepath.Join(b.dir, "log"))
	p.wants(0)
	if strings.Contains(p.said(), "system log") {
		t.Errorf("there is a log:\n%s", p.said())
	}
	b.start(nil, "stunnel", "down", "peer").wants(0)
}

func TestDetachHasTheFateOfADaemonThatFails(t *testing.T) {
	b := newBox(t)
	b.sh("mkdir -p /var/run/wireguard")
	before := b.state()
	log := filepath.Join(b.dir, "log")
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "PostUp = false\n"), "--detach", "--log-file", log)
	p.wants(1, "PostUp")
	if text, err := os.ReadFile(log); err != nil || !strings.Contains(string(text), "peer: address 10.5.0.1/24\n") || !strings.Contains(string(text), "peer: error: PostUp") {
		t.Errorf("log: %s, %v", text, err)
	}
	if n := strings.Count(p.said(), "stunnel: error:"); n != 1 {
		t.Errorf("%d errors, want one:\n%s", n, p.said())
	}
	b.same(before)
}

func TestInterruptedDetachLeavesNothing(t *testing.T) {
	b := newBox(t)
	fifo := filepath.Join(b.dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	before := b.state()
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "PostUp = echo > "+fifo+"; read x < "+fifo+"\n"), "--detach")
	if _, err := os.ReadFile(fifo); err != nil {
		t.Fatal(err)
	}
	p.signal(unix.SIGINT)
	p.wants(1, "before it was ready")
	b.same(before)
}

func TestWrongUseOfUpIsWrongUsage(t *testing.T) {
	b := newBox(t)
	path := b.tunnelFile("peer.conf", "")
	b.start(nil, "stunnel", "up", path, "--log-level", "loud").wants(2, "--log-level")
	b.start(nil, "stunnel", "up", path, "--log-file", "x").wants(2, "--detach")
	b.start(nil, "stunnel", "up", path, "--detach", "--log-file", "/nonexistent/x").wants(1, "/nonexistent/x")
}

func TestBoottimeGoesOn(t *testing.T) {
	first := boottime()
	var up unix.Sysinfo_t
	if err := unix.Sysinfo(&up); err != nil {
		t.Fatal(err)
	}
	if d := first - time.Duration(up.Uptime)*time.Second; d < -2*time.Second || d > 2*time.Second {
		t.Errorf("%v, but the machine is up for %d s", first, up.Uptime)
	}
	if second := boottime(); second <= first {
		t.Errorf("%v after %v", second, first)
	}
}

func TestADefaultRouteThatAHookHasSetIsOne(t *testing.T) {
	b := newBox(t)
	before := b.state()
	p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", "PreUp = wg set %i peer "+crypto.NewPrivateKey().Public().String()+" allowed-ips 0.0.0.0/0\n")).untilReady()
	wantWords(t, b.sh("ip rule; ip route show table all; wg show peer fwmark"),
		"0:\tfrom all fwmark 0xca6c lookup main proto 115", "not from all fwmark 0xca6c lookup 51820", "default dev peer table 51820", "0xca6c\n")
	p.signal(unix.SIGTERM)
	p.wants(0, "fwmark 0xca6c", "route 0.0.0.0/0 in table 51820")
	b.same(before)
}
