package device

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// pair is two hosts whose TUNs, or TAPs, are joined by a wire: 10.9.8.1 and
// fd98::1 in the test's namespace, 10.9.8.2 and fd98::2 in another one.
type pair struct {
	here, there *TUN
	ethernet    bool
	ns          netns.NsHandle
	packets     atomic.Int64 // that went over the wire
	partial     atomic.Int64 // of them
	longest     atomic.Int64 // train
	trusting    atomic.Bool  // packets stay partial on the wire
	unheard     int          // wrong checksums that are none, see TestTunnelsMadeOnThisHostCarryStreamsWhole
}

func newPair(t testing.TB, o Options) *pair {
	t.Helper()
	privateNetwork(t)
	p := &pair{ns: anotherNetwork(t), ethernet: o.Ethernet}
	o.Name, o.MTU = "here", 1420
	p.here = openTUN(t, o)
	inThere(t, p.ns, func() error {
		o.Name = "there"
		var err error
		p.there, err = Open(o)
		return err
	})
	t.Cleanup(func() { _ = p.there.Close() })
	home, err := netns.Get()
	must(t, err)
	defer func() { _ = home.Close() }()
	up(t, home, "here", "1")
	up(t, p.ns, "there", "2")
	var wires sync.WaitGroup
	wires.Go(func() { p.carry(t, p.here.Queues()[0], p.there.Queues()[0]) })
	wires.Go(func() { p.carry(t, p.there.Queues()[0], p.here.Queues()[0]) })
	t.Cleanup(func() {
		_, _ = p.here.Close(), p.there.Close()
		wires.Wait()
	})
	return p
}

func inThere(t testing.TB, ns netns.NsHandle, f func() error) {
	t.Helper()
	must(t, inNamespace(int(ns), f))
}

// up gives the interface its addresses and returns when they are in use.
func up(t testing.TB, ns netns.NsHandle, name, host string) {
	t.Helper()
	h, err := netlink.NewHandleAt(ns)
	must(t, err)
	defer h.Close()
	l, err := h.LinkByName(name)
	must(t, err)
	must(t, h.AddrAdd(l, address(t, "10.9.8."+host+"/24")))
	a := address(t, "fd98::"+host+"/64")
	a.Flags = unix.IFA_F_NODAD
	// Even without duplicate address detection the kernel takes an IPv6
	// address into use at its leisure.
	updates, done := make(chan netlink.AddrUpdate), make(chan struct{})
	must(t, netlink.AddrSubscribeWithOptions(updates, done, netlink.AddrSubscribeOptions{Namespace: &ns}))
	must(t, h.AddrAdd(l, a))
	must(t, h.LinkSetUp(l))
	within(t, "taking an address into use", func() {
		for u := range updates {
			if u.LinkAddress.IP.Equal(a.IP) && u.Flags&unix.IFA_F_TENTATIVE == 0 {
				return
			}
		}
	})
	close(done)
	for range updates {
	}
}

// carry is the wire in one direction: it takes packets as they would be
// sealed, and no packet is larger than the MTU.
func (p *pair) carry(t testing.TB, from, to *Queue) {
	memory := make([]byte, maxTrain*2048)
	room, most := 0, 1420
	if p.ethernet {
		room, most = FrameRoom, most+frameAddresses+etherTypeSize
	}
	var out [][]byte
	for {
		first, rest, partial, err := from.Read()
		if err != nil {
			return
		}
		out = out[:0]
		for i := range first {
			switch {
			case !partial[i]:
			case p.trusting.Load():
				p.partial.Add(1)
			default:
				from.Complete(first[i], rest[i])
				partial[i] = false
			}
			b := memory[i*2048 : i*2048 : (i+1)*2048]
			b = append(append(b, first[i][room:]...), rest[i]...)
			if len(b) > most {
				t.Errorf("a packet of %d bytes on the wire", len(b))
			}
			if partial[i] {
				ip := b
				if p.ethernet {
					ip = b[plainNetwork(b):]
				}
				_, field, ok := plainRule(ip)
				if !ok {
					t.Errorf("a packet is partial that can't be: % x", b)
				}
				copy(ip[field:], "\xde\xad") // what is there means nothing
			}
			out = append(out, b)
		}
		p.packets.Add(int64(len(out)))
		if n := int64(len(out)); n > p.longest.Load() {
			p.longest.Store(n)
		}
		if err := to.Write(out, partial); err != nil {
			return
		}
	}
}

// transfer sends n bytes over TCP from here to there and compares hashes.
func (p *pair) transfer(t testing.TB, to string, n int64) {
	t.Helper()
	home, err := netns.Get()
	must(t, err)
	defer func() { _ = home.Close() }()
	transfer(t, home, p.ns, to, n, nil)
}

// transfer sends n bytes over TCP from one namespace to an address in another
// one and compares hashes. prepare may set options of the sender's socket.
func transfer(t testing.TB, from, at netns.NsHandle, to string, n int64, prepare func(fd int) error) {
	t.Helper()
	var l net.Listener
	inThere(t, at, func() (err error) {
		l, err = net.Listen("tcp", to)
		return err
	})
	defer func() { _ = l.Close() }()
	received := make(chan [32]byte, 1)
	go func() {
		h := sha256.New()
		if c, err := l.Accept(); err == nil {
			_, _ = io.Copy(h, c)
			_ = c.Close()
		}
		received <- [32]byte(h.Sum(nil))
	}()
	dialer := net.Dialer{Timeout: 10 * time.Second}
	if prepare != nil {
		dialer.Control = func(_, _ string, raw syscall.RawConn) (err error) {
			control := raw.Control(func(fd uintptr) { err = prepare(int(fd)) })
			return errors.Join(control, err)
		}
	}
	var c net.Conn
	inThere(t, from, func() (err error) {
		c, err = dialer.Dial("tcp", l.Addr().String())
		return err
	})
	must(t, c.SetDeadline(time.Now().Add(60*time.Second)))
	sent := sha256.New()
	var seed [32]byte
	_, err := io.CopyN(io.MultiWriter(c, sent), rand.NewChaCha8(seed), n)
	must(t, err)
	must(t, c.(*net.TCPConn).CloseWrite())
	if got := <-received; got != [32]byte(sent.Sum(nil)) {
		t.Errorf("%s: what arrived is not what was sent", to)
	}
	_ = c.Close()
}

// sumErrors counts packets with a wrong checksum that both hosts, and others,
// have seen.
func (p *pair) sumErrors(t testing.TB, others ...netns.NsHandle) (n int) {
	t.Helper()
	read := func() error {
		for _, file := range []string{"snmp", "snmp6"} {
			b, err := os.ReadFile("/proc/thread-self/net/" + file)
			if err != nil {
				return err
			}
			n += csumErrors(string(b))
		}
		return nil
	}
	must(t, read())
	for _, ns := range append(others, p.ns) {
		inThere(t, ns, read)
	}
	return n
}

func csumErrors(snmp string) (n int) {
	var names []string
	for line := range strings.Lines(snmp) {
		f := strings.Fields(line)
		if len(f) == 2 && strings.HasSuffix(f[0], "InCsumErrors") {
			var v int
			_, _ = fmt.Sscan(f[1], &v)
			n += v
		}
		for i := range f {
			if len(names) == len(f) && names[i] == "InCsumErrors" && names[0] == f[0] {
				var v int
				_, _ = fmt.Sscan(f[i], &v)
				n += v
			}
		}
		names = f
	}
	return n
}

func setUDP(c *net.UDPConn, option, value int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, option, value) })
	if err != nil {
		return err
	}
	return set
}
