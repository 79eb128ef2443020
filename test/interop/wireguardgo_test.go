package interop

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"stunnel/crypto"
	"stunnel/test/memnet"
	"stunnel/transport/socket"
)

var wireguardGo = maker{"wireguard-go", startWireGuardGo}

// batch is how many packets wireguard-go takes at a time.
const batch = 64

// pinned keeps every Device and Peer alive for the life of the process. Peers'
// queues have finalizers that receive from the queue's channel, and a finalizer
// runs outside of the bubble in which the channel was made: that is fatal.
var pinned struct {
	sync.Mutex
	things []any
}

func pin(thing any) {
	pinned.Lock()
	defer pinned.Unlock()
	pinned.things = append(pinned.things, thing)
}

// wireguard is wireguard-go's end.
type wireguard struct {
	*device.Device
	e *end
}

func startWireGuardGo(e *end) implementation {
	e.w.t.Helper()
	log := &device.Logger{Verbosef: device.DiscardLogf, Errorf: e.w.t.Logf}
	adapter := &tunAdapter{queue: e.device.Queues()[0], events: make(chan tun.Event, 1)}
	w := &wireguard{device.NewDevice(adapter, &bindAdapter{host: e.host}, log), e}
	pin(w.Device)
	w.set("private_key=%s\nlisten_port=%d\n", e.private.Hex(), outerPort)
	if err := w.Up(); err != nil {
		e.w.t.Fatal(err)
	}
	return w
}

func (w *wireguard) set(format string, args ...any) {
	w.e.w.t.Helper()
	if err := w.IpcSet(fmt.Sprintf(format, args...)); err != nil {
		w.e.w.t.Fatal(err)
	}
}

func (w *wireguard) configure(p peer) {
	w.e.w.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "public_key=%s\npreshared_key=%s\nreplace_allowed_ips=true\n", p.key.Hex(), p.psk.Hex())
	if p.endpoint.IsValid() {
		fmt.Fprintf(&b, "endpoint=%v\n", p.endpoint)
	}
	for _, prefix := range p.allowed {
		fmt.Fprintf(&b, "allowed_ip=%v\n", prefix)
	}
	fmt.Fprintf(&b, "persistent_keepalive_interval=%d\n", p.keepalive/time.Second)
	w.set("%s", b.String())
	pin(w.LookupPeer(device.NoisePublicKey(p.key)))
}

func (w *wireguard) state(key crypto.PublicKey) (s state) {
	w.e.w.t.Helper()
	text, err := w.IpcGet()
	if err != nil {
		w.e.w.t.Fatal(err)
	}
	number := func(value string) int64 {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			w.e.w.t.Fatal(err)
		}
		return n
	}
	mine, found := false, false
	var seconds, nanoseconds int64
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "=")
		if name == "public_key" {
			mine = value == key.Hex()
			found = found || mine
		}
		if !mine {
			continue
		}
		switch name {
		case "endpoint":
			s.endpoint = netip.MustParseAddrPort(value)
		case "last_handshake_time_sec":
			seconds = number(value)
		case "last_handshake_time_nsec":
			nanoseconds = number(value)
		case "tx_bytes":
			s.tx = uint64(number(value))
		case "rx_bytes":
			s.rx = uint64(number(value))
		case "persistent_keepalive_interval":
			s.keepalive = time.Duration(number(value)) * time.Second
		}
	}
	if !found {
		w.e.w.t.Fatalf("%s does not know the peer", w.e.name)
	}
	if seconds != 0 || nanoseconds != 0 {
		s.handshake = time.Unix(seconds, nanoseconds)
	}
	return s
}

func (w *wireguard) stop() { w.Close() }

// tunAdapter is a memnet device's queue as wireguard-go's tun.Device.
type tunAdapter struct {
	queue       *memnet.Queue
	events      chan tun.Event
	once        sync.Once
	first, rest [][]byte // read and not yet taken
}

func (a *tunAdapter) File() *os.File           { return nil }
func (a *tunAdapter) MTU() (int, error)        { return mtu, nil }
func (a *tunAdapter) Name() (string, error)    { return "memnet", nil }
func (a *tunAdapter) Events() <-chan tun.Event { return a.events }
func (a *tunAdapter) BatchSize() int           { return batch }

func (a *tunAdapter) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	if len(a.first) == 0 {
		var err error
		if a.first, a.rest, _, err = a.queue.Read(); err != nil {
			return 0, err
		}
	}
	n := min(len(bufs), len(a.first))
	for i := range n {
		sizes[i] = copy(bufs[i][offset:], a.first[i])
		sizes[i] += copy(bufs[i][offset+sizes[i]:], a.rest[i])
	}
	a.first, a.rest = a.first[n:], a.rest[n:]
	return n, nil
}

func (a *tunAdapter) Write(bufs [][]byte, offset int) (int, error) {
	packets := make([][]byte, len(bufs))
	for i := range bufs {
		packets[i] = bufs[i][offset:]
	}
	if err := a.queue.Write(packets, nil); err != nil {
		return 0, err
	}
	return len(bufs), nil
}

func (a *tunAdapter) Close() error {
	a.once.Do(func() { close(a.events) })
	return a.queue.Close()
}

// bindAdapter is a memnet host as wireguard-go's conn.Bind.
type bindAdapter struct {
	host *memnet.Host

	mu     sync.Mutex
	socket *memnet.Socket // nil: closed
}

func (a *bindAdapter) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.socket != nil {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	sockets, err := a.host.Listen(port, 1, 0)
	if err != nil {
		return nil, 0, err
	}
	a.socket = sockets[0]
	opened := sockets[0]
	var burst []socket.Datagram // received and not yet taken
	receive := func(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		if len(burst) == 0 {
			var err error
			if burst, err = opened.Receive(); err != nil {
				return 0, err
			}
		}
		n := min(len(packets), len(burst))
		for i, d := range burst[:n] {
			sizes[i] = copy(packets[i], d.Data)
			eps[i] = newEndpoint(d.Path.Remote, d.Path.Local)
		}
		burst = burst[n:]
		return n, nil
	}
	return []conn.ReceiveFunc{receive}, a.socket.Port(), nil
}

func (a *bindAdapter) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.socket == nil {
		return nil
	}
	err := a.socket.Close()
	a.socket = nil
	return err
}

func (a *bindAdapter) SetMark(mark uint32) error { return nil }
func (a *bindAdapter) BatchSize() int            { return batch }

func (a *bindAdapter) ParseEndpoint(s string) (conn.Endpoint, error) {
	remote, err := netip.ParseAddrPort(s)
	if err != nil {
		return nil, err
	}
	return newEndpoint(remote, netip.Addr{}), nil
}

func (a *bindAdapter) Send(bufs [][]byte, ep conn.Endpoint) error {
	a.mu.Lock()
	opened := a.socket
	a.mu.Unlock()
	if opened == nil {
		return net.ErrClosed
	}
	e := ep.(*endpoint)
	for _, b := range bufs {
		err := opened.Send(b, len(b), socket.Path{Remote: e.remote, Local: e.SrcIP()})
		switch err {
		case nil:
		case socket.ErrLocalGone:
			e.ClearSrc()
		default:
			return err
		}
	}
	return nil
}

// endpoint is a remote address and the local one that goes with it.
type endpoint struct {
	remote netip.AddrPort
	local  atomic.Pointer[netip.Addr] // never nil
}

func newEndpoint(remote netip.AddrPort, local netip.Addr) *endpoint {
	e := &endpoint{remote: remote}
	e.local.Store(&local)
	return e
}

func (e *endpoint) ClearSrc()           { e.local.Store(new(netip.Addr)) }
func (e *endpoint) SrcToString() string { return e.SrcIP().String() }
func (e *endpoint) DstToString() string { return e.remote.String() }
func (e *endpoint) DstIP() netip.Addr   { return e.remote.Addr() }
func (e *endpoint) SrcIP() netip.Addr   { return *e.local.Load() }
func (e *endpoint) DstToBytes() []byte {
	b, err := e.remote.MarshalBinary()
	if err != nil {
		panic(err) // it has no error to return
	}
	return b
}
