package netconf

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// PathMSS, as the MSS of a [Gateway], is what fits the path.
const PathMSS = -1

// Gateway gives packets that come out of the tunnel and leave the host elsewhere the host's own address as their source,
// and tells the TCP connections of the tunnel, in both directions, how much a packet may carry. Both families.
//
// No mark is set: from Linux 5.7 on, a packet that leaves still tells where it came in.
type Gateway struct {
	Interface  string
	Masquerade bool
	Outer      []string // masquerade only what leaves there; empty: anywhere but through the tunnel
	MSS        int      // in bytes, or PathMSS; 0: as the hosts have it
}

func (g *Gateway) String() string {
	var what []string
	if g.Masquerade {
		where := "anywhere else"
		if len(g.Outer) > 0 {
			where = "through " + strings.Join(g.Outer, ", ")
		}
		what = append(what, fmt.Sprintf("what comes from %s and leaves %s gets this host's address", g.Interface, where))
	}
	switch {
	case g.MSS == PathMSS:
		what = append(what, "TCP is told the segment size that fits the path")
	case g.MSS > 0:
		what = append(what, fmt.Sprintf("TCP is told a segment size of %d at most", g.MSS))
	}
	return fmt.Sprintf("gateway: %s (nftables: table inet %s)", strings.Join(what, ", "), g.Table())
}

// Table is the table's name.
func (g *Gateway) Table() string { return ourTables + g.Interface + "/gateway" }

// Look is never done: a table that is there may be one of an earlier tunnel, and is replaced.
func (g *Gateway) Look(*Handle) (done bool, err error) {
	if g.Masquerade && kernelBefore(5, 7) {
		return false, errors.New("masquerading packets by where they came in needs Linux 5.7")
	}
	return false, nil
}

func (g *Gateway) Make(h *Handle) error {
	t, err := h.newTable(g.Table())
	if err != nil {
		return err
	}
	if g.MSS != 0 {
		c := t.chain(nftables.ChainHookForward, nftables.ChainTypeFilter, *nftables.ChainPriorityMangle, nftables.ChainPolicyAccept)
		t.rule(c, "", in(g.Interface), synchronizing(), segmentSize(g.MSS))
		t.rule(c, "", out(g.Interface), synchronizing(), segmentSize(g.MSS))
	}
	if g.Masquerade {
		c := t.chain(nftables.ChainHookPostrouting, nftables.ChainTypeNAT, *nftables.ChainPriorityNATSource, nftables.ChainPolicyAccept)
		where := [][]expr.Any{notOut(g.Interface)}
		if len(g.Outer) > 0 {
			where = nil
			for _, name := range g.Outer {
				where = append(where, out(name))
			}
		}
		for _, w := range where {
			t.rule(c, "", in(g.Interface), w, counted(), []expr.Any{new(expr.Masq)})
		}
	}
	return t.commit()
}

// Undo removes the table. Connections that it has translated end with their tunnel.
func (g *Gateway) Undo(h *Handle) error {
	_, err := h.removeTable(g.Table())
	return err
}

// synchronizing is for the first packets of both sides of a TCP connection: SYN is set, RST is not.
func synchronizing() []expr.Any {
	const flags, syn, rst = 13, 0x02, 0x04
	return append(ofProtocol(unix.IPPROTO_TCP),
		&expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseTransportHeader, Offset: flags, Len: 1},
		masked([]byte{syn | rst}),
		compare(expr.CmpOpEq, []byte{syn}))
}

// segmentSize writes the option MSS of a TCP packet (RFC 9293, section 3.2); the kernel only ever lowers it. What fits the
// path is the least of the MTUs of the routes there and back.
func segmentSize(size int) []expr.Any {
	const option, offset = 2, 2
	write := &expr.Exthdr{SourceRegister: unix.NFT_REG_1, Type: option, Offset: offset, Len: 2, Op: expr.ExthdrOpTcpopt}
	if size == PathMSS {
		// rt gives it in host order.
		return []expr.Any{&expr.Rt{Register: unix.NFT_REG_1, Key: expr.RtTCPMSS},
			&expr.Byteorder{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Op: expr.ByteorderHton, Len: 2, Size: 2}, write}
	}
	return []expr.Any{&expr.Immediate{Register: unix.NFT_REG_1, Data: binaryutil.BigEndian.PutUint16(uint16(size))}, write}
}

// DefaultInterfaces are the interfaces of the default routes of both families in all tables, but for the one of that name.
func (h *Handle) DefaultInterfaces(except string) (names []string, err error) {
	for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		routes, err := h.listRoutes(family(any), &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("default routes: %w", err)
		}
		for _, r := range routes {
			if p, ok := destination(r, any); !ok || p.Bits() != 0 || r.Type != unix.RTN_UNICAST {
				continue
			}
			for _, index := range hops(r) {
				name := h.nameOf(index)
				if name != except && !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
	}
	return names, nil
}

// hops are the interfaces that a route leads through.
func hops(r netlink.Route) (indexes []int) {
	if r.LinkIndex > 0 {
		indexes = append(indexes, r.LinkIndex)
	}
	for _, hop := range r.MultiPath {
		if hop.LinkIndex > 0 {
			indexes = append(indexes, hop.LinkIndex)
		}
	}
	return indexes
}

func kernelBefore(major, minor int) bool {
	var u unix.Utsname
	var a, b int
	if unix.Uname(&u) != nil {
		return false
	}
	n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b)
	return n == 2 && (a < major || a == major && b < minor)
}
