package memnet

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"syscall"
)

// Host is a machine with addresses and sockets. Everything but number, name
// and network is guarded by the network's mutex.
type Host struct {
	network *Network
	number  int
	name    string

	mtu       int // of what is sent whole; 0: any
	addresses []netip.Addr
	nat       *NAT
	sockets   map[uint16][]*Socket
	listeners map[uint16]*Listener
	ephemeral uint16
}

// Host adds a host. Of the addresses, the first of a family is the one that
// datagrams are sent from unless the sender chooses another.
func (n *Network) Host(name string, addresses ...netip.Addr) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := &Host{
		network: n, number: len(n.hosts) + 1, name: name,
		addresses: slices.Clone(addresses), sockets: make(map[uint16][]*Socket), ephemeral: 32768,
	}
	n.hosts = append(n.hosts, h)
	return h
}

// Name returns the name that the host was made with.
func (h *Host) Name() string { return h.name }

// Addresses returns the addresses that the host has now.
func (h *Host) Addresses() []netip.Addr {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	return slices.Clone(h.addresses)
}

// SetAddresses replaces the host's addresses, as when a laptop changes its
// network. Sockets stay open; datagrams under way to an old address are lost.
func (h *Host) SetAddresses(addresses ...netip.Addr) {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	h.addresses = slices.Clone(addresses)
}

// SetMTU changes that of the host's own network: what is longer and is to pass whole is not
// sent, and the sender told. 0: anything is sent.
func (h *Host) SetMTU(mtu int) {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	h.mtu = mtu
}

// MTU is the one that SetMTU has set.
func (h *Host) MTU() int {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	return h.mtu
}

// Listen opens n sockets on one port, as SO_REUSEPORT does: a remote's
// datagrams all reach the same one. Port 0 is a free one. EADDRINUSE when the
// port is taken. The mark is what Socket.Mark returns.
func (h *Host) Listen(port uint16, n int, mark uint32) ([]*Socket, error) {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	if port == 0 {
		for len(h.sockets[h.ephemeral]) > 0 {
			h.ephemeral++
		}
		port = h.ephemeral
		h.ephemeral++
	}
	if len(h.sockets[port]) > 0 {
		return nil, syscall.EADDRINUSE
	}
	group := make([]*Socket, n)
	for i := range group {
		group[i] = newSocket(h, port, mark)
	}
	h.sockets[port] = group
	return slices.Clone(group), nil
}

var seed = maphash.MakeSeed()

// socketFor picks the socket of a port for a remote. Called with mu held.
func (h *Host) socketFor(remote netip.AddrPort, port uint16) *Socket {
	group := h.sockets[port]
	if len(group) == 0 {
		return nil
	}
	return group[maphash.Comparable(seed, remote)%uint64(len(group))]
}

// source picks the address to send from: local if the host has it, else its
// first of the remote's family. chosen is false when local is not the host's.
func (h *Host) source(local netip.Addr, remote netip.Addr) (source netip.Addr, chosen bool, err error) {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	if local.IsValid() && slices.Contains(h.addresses, local) && local.Is4() == remote.Is4() {
		return local, true, nil
	}
	for _, a := range h.addresses {
		if a.Is4() == remote.Is4() {
			if local.IsValid() {
				h.network.stats.LocalGone++
			}
			return a, !local.IsValid(), nil
		}
	}
	return netip.Addr{}, false, syscall.ENETUNREACH
}

// forget takes a closed socket out of its port.
func (h *Host) forget(s *Socket) {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	group := slices.DeleteFunc(slices.Clone(h.sockets[s.port]), func(o *Socket) bool { return o == s })
	if len(group) == 0 {
		delete(h.sockets, s.port)
		return
	}
	h.sockets[s.port] = group
}

// NAT is an address translator with one public address in front of hosts. Its
// mappings are independent of the remote, and open to any remote.
// Guarded by the network's mutex.
type NAT struct {
	network *Network
	public  netip.Addr
	hosts   []*Host
	ports   map[netip.AddrPort]uint16
	inside  map[uint16]mapping
	next    uint16
}

type mapping struct {
	host    *Host
	address netip.AddrPort
}

// NAT puts hosts behind one public address. They reach each other directly.
func (n *Network) NAT(public netip.Addr, hosts ...*Host) *NAT {
	n.mu.Lock()
	defer n.mu.Unlock()
	nat := &NAT{
		network: n, public: public, hosts: slices.Clone(hosts), next: 1024,
		ports: make(map[netip.AddrPort]uint16), inside: make(map[uint16]mapping),
	}
	for _, h := range hosts {
		h.nat = nat
	}
	return nat
}

// Rebind forgets all mappings, as a home router does after a pause or a
// restart: what comes in is lost, what goes out gets a port never used before.
func (nat *NAT) Rebind() {
	nat.network.mu.Lock()
	defer nat.network.mu.Unlock()
	clear(nat.ports)
	clear(nat.inside)
}

func (nat *NAT) encloses(a netip.Addr) bool {
	return slices.ContainsFunc(nat.hosts, func(h *Host) bool { return slices.Contains(h.addresses, a) })
}

func (nat *NAT) outward(h *Host, from netip.AddrPort) netip.AddrPort {
	port, ok := nat.ports[from]
	if !ok {
		port = nat.next
		nat.next++
		nat.ports[from] = port
		nat.inside[port] = mapping{h, from}
	}
	return netip.AddrPortFrom(nat.public, port)
}

func (nat *NAT) inward(port uint16) (mapping, bool) {
	m, ok := nat.inside[port]
	return m, ok
}
