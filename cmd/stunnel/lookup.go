package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"stunnel/cmd/internal/conf"
	"stunnel/cmd/internal/control"
	"stunnel/device/netconf/dns"
	"stunnel/transport"
)

// lookups finds the addresses of endpoints' names in a way that holds whatever the tunnel does to the machine's routes and
// name servers: the questions carry the tunnel's mark, as its sealed packets do, and go to the servers that the machine had
// before. /etc/hosts comes first, as everywhere. Safe for concurrent use.
type lookups struct {
	mark   func() uint32 // 0: none
	direct bool          // past systemd-resolved, which would ask through the tunnel, or be stopped by its kill switch
	own    []netip.Addr  // the tunnel's name servers, which can't be asked for the way to themselves
	before []netip.Addr  // what there was before the tunnel
}

// serverTime is what one name server of several has to answer; the C library's usual time.
const serverTime = 5 * time.Second

// newLookups is called before the machine's name servers are changed. The mark is engine's, and the file's until that has one.
func newLookups(f *conf.File, engine *transport.Tunnel) *lookups {
	mark := func() uint32 {
		if m := engine.Status().FwMark; m != 0 || f.Interface.FwMark == nil {
			return m
		}
		return *f.Interface.FwMark
	}
	l := &lookups{mark: mark, direct: pastResolved(f), own: f.Interface.DNS.Servers}
	l.before, _ = dns.Upstream(l.direct, isTunnel) // said when it is needed
	return l
}

// pastResolved says whether systemd-resolved's own questions would go into the tunnel, or be stopped by its kill switch.
func pastResolved(f *conf.File) bool {
	return takesAll(f) || len(f.Interface.DNS.Servers) > 0 || f.Interface.KillSwitch
}

// takesAll says whether what the machine sends goes through the tunnel, but for what is marked.
func takesAll(f *conf.File) bool {
	for _, p := range f.Peers {
		for _, prefix := range p.AllowedIPs {
			if prefix.Bits() <= 1 { // both halves of a family are as good as all of it
				return true
			}
		}
	}
	return false
}

// isTunnel says whether the interface has a control socket, ours or another program's.
func isTunnel(index int) bool {
	names, _ := control.Interfaces() // who can't read them has none that matter
	l, err := net.InterfaceByIndex(index)
	return err == nil && slices.Contains(names, l.Name)
}

// servers are those that there are now without the tunnel's own: the network underneath may have changed since it came up.
func (l *lookups) servers() []netip.Addr {
	now, err := dns.Upstream(l.direct, isTunnel)
	now = slices.DeleteFunc(now, func(a netip.Addr) bool { return slices.Contains(l.own, a) })
	if err != nil || len(now) == 0 {
		return l.before
	}
	return now
}

// lookup is net.Resolver.LookupNetIP.
func (l *lookups) lookup(ctx context.Context, network, host string) ([]netip.Addr, error) {
	addrs, _, err := l.find(ctx, network, host)
	return addrs, err
}

// find is lookup, and tells how long the answer is to hold; 0: that is not known. What one server does not know, none does; one
// that does not answer is passed over.
func (l *lookups) find(ctx context.Context, network, host string) ([]netip.Addr, time.Duration, error) {
	servers := l.servers()
	if len(servers) == 0 {
		return l.ask(ctx, netip.Addr{}, false, network, host) // it may be in /etc/hosts
	}
	var errs []error
	for _, s := range servers {
		addrs, life, err := l.ask(ctx, s, len(servers) > 1, network, host)
		var unknown *net.DNSError
		if err == nil || errors.As(err, &unknown) && unknown.IsNotFound {
			return addrs, life, err
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, 0, errs[len(errs)-1]
}

var errNoServer = errors.New("the machine has no name server but the tunnel's own")

// ask asks one server, or none.
func (l *lookups) ask(ctx context.Context, server netip.Addr, hurry bool, network, host string) ([]netip.Addr, time.Duration, error) {
	if hurry {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, serverTime)
		defer cancel()
	}
	d := net.Dialer{Control: l.control}
	var lives lives
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		if !server.IsValid() {
			return nil, errNoServer
		}
		c, err := d.DialContext(ctx, network, netip.AddrPortFrom(server, 53).String())
		if udp, ok := c.(*net.UDPConn); ok {
			return &answering{udp, &lives}, err
		}
		return c, err
	}}
	addrs, err := r.LookupNetIP(ctx, network, host)
	var failed *net.DNSError
	if errors.As(err, &failed) && failed.Server != "" {
		failed.Server = netip.AddrPortFrom(server, 53).String() // the resolver knows that of resolv.conf only
	}
	return addrs, lives.shortest(), err
}

// control marks a socket.
func (l *lookups) control(_, _ string, raw syscall.RawConn) error {
	mark := l.mark()
	if mark == 0 {
		return nil
	}
	var err error
	if controlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark))
	}); controlErr != nil {
		return controlErr
	}
	if err != nil {
		return fmt.Errorf("mark a look-up: %w", err)
	}
	return nil
}
