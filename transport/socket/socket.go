// Package socket moves trains of datagrams: UDP with segmentation offload both ways (udp(7), UDP_SEGMENT and UDP_GRO),
// as Linux has it, and where UDP does not get through TCP connections that carry the same (TCP). It knows no keys and no
// peers.
//
// Most readers need two calls: Receive, which waits for datagrams and returns all that one system call gave, each with
// the Path it came by; and Send, which sends a train of equal datagrams back along a Path, in as few system calls as
// the kernel allows.
package socket

import (
	"errors"
	"net"
	"net/netip"
	"os"
)

// Path is how datagrams travel between this host and a remote one. It is comparable.
type Path struct {
	// Remote is the other end. IPv4 is plain, never mapped into IPv6; a link-local IPv6 address has a zone (when
	// received, the number of the interface).
	Remote netip.AddrPort

	// Local is our address: where a datagram came to, and where one is to come from. The zero Addr leaves the choice
	// to the kernel.
	Local netip.Addr

	// Interface is the index of the interface through which a datagram came. When sending, it counts for a link-local
	// Local only, as nothing else would tell the links apart. Everything else takes the route that the kernel has for
	// it: a reply that was forced out where the question came in would never leave a host whose routes are asymmetric.
	Interface uint32

	// Stream is the connection on which a message came, or is to go; nil: the datagrams are UDP's.
	Stream Stream

	// Whole says that a datagram which does not fit the way is lost, not cut into fragments: it goes out with DF (IPv4), at
	// the size of the device's MTU whatever the kernel has heard of the path from ICMP. It counts when sending only, and
	// never is set on what was received.
	Whole bool
}

// Datagram is one received datagram.
type Datagram struct {
	Data []byte
	Path Path
}

// Options are what the sockets are made with.
type Options struct {
	Mark      uint32 // SO_MARK of what is sent, for policy routing; needs CAP_NET_ADMIN. 0: none
	NoOffload bool   // every datagram is sent and received singly: neither GSO nor GRO

	// Address is the only local address that is used; the zero Addr: any. A link-local one has a zone.
	Address netip.Addr

	// Device is the name of the only network device that is used (SO_BINDTODEVICE); "": any.
	Device string

	// Lost is called, once per socket, when an offload that was in use is given up for good, with its name and why.
	// It must not call the socket. nil: nobody wants to know.
	Lost func(offload, why string)

	// Full is called when a Listener can take no connection, with why, up to ten times in a second. nil: nobody wants to know.
	Full func(why error)
}

// Features says how a socket works on this kernel, for people: which offloads are in use and, where not, why.
type Features struct {
	IPv6          bool // false: the host has no IPv6, the socket is an IPv4 one
	GSO, GRO      bool
	NoGSO, NoGRO  string // the reason, where false
	ReceiveBuffer int    // bytes, as the kernel counts them
	SendBuffer    int
	Truncated     uint64 // datagrams dropped because they were larger than any UDP datagram can be
	ReceiveErrors uint64 // errors that Receive survived, such as ICMP messages queued at the socket
	RefusedLocal  uint64 // trains that were sent without their Local
	Unsegmented   uint64 // trains that were sent singly after UDP_SEGMENT was refused
}

// ErrLocalGone says that a train was sent, but not from Path.Local, which is no longer ours or has no route to the
// remote end. The caller forgets it.
var ErrLocalGone = errors.New("the local address is gone, sent from another")

// ErrTooLong says that datagrams of a Path that is Whole were not sent, since they are longer than the MTU of the device
// that they would leave by.
var ErrTooLong = errors.New("longer than the device's MTU")

// ErrStalled says that messages were dropped, since a Stream did not take them in good time.
var ErrStalled = errors.New("the connection is stalled")

// errClosed is what Receive and Send return after Close. It is both of the standard library's errors for that.
var errClosed error = closedError{}

type closedError struct{}

func (closedError) Error() string { return "socket is closed" }

func (closedError) Is(target error) bool { return target == net.ErrClosed || target == os.ErrClosed }
