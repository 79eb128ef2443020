package device

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// bursts bound the super-packets that the stack makes for an interface, as ip
// link's gso_max_size, gso_ipv4_max_size and gso_max_segs do. Sizes are bytes
// with the IP header.
type bursts struct {
	size, size4 uint32 // of IPv6 (of both, before Linux 6.3), and of IPv4
	segments    uint32
}

// Attributes of linux/if_link.h.
const (
	linkGSOMaxSegments = 40
	linkGSOMaxSize     = 41
	linkGSOIPv4MaxSize = 63
)

const (
	largestBurst = 65536 // more would be no IPv4 packet, and is more than a TUN takes
	mostSegments = 64    // what UDP_SEGMENT takes in every kernel
	// tcpReserve is what TCP keeps free of a burst for headers, at most: 128
	// bytes and all that drivers may add, which depends on the kernel's
	// configuration, rounded up; and one.
	tcpReserve = 320 + 1
)

// burstsOf n packets of the MTU. TCP fills a burst with as many segments as fit
// into the bound less its reserve. So the bound is where n of the largest just
// fit, those with the smallest headers: 40 bytes of IPv4, 60 of IPv6. There is
// no room then for one more of those with time stamps, 12 bytes smaller each.
func burstsOf(n, mtu int) bursts {
	size := func(headers int) uint32 {
		return uint32(min(tcpReserve+n*max(mtu-headers, 1), largestBurst))
	}
	b := bursts{size: size(60), size4: size(40), segments: mostSegments}
	if n >= mostSegments {
		b.size, b.size4 = largestBurst, largestBurst
	}
	return b
}

// LimitBursts has the stack make super-packets of at most n packets of the MTU
// (both at least 1), of TCP connections that begin from now on. An interface
// that was there before gets back on Close what it had. Without [Options].Offload
// there are no super-packets, and nothing is done. EPERM without CAP_NET_ADMIN.
func (t *TUN) LimitBursts(n, mtu int) error {
	if !t.virtio || !t.wanted || n < 1 || mtu < 1 {
		return nil
	}
	s, state, err := t.locate()
	if err != nil {
		return err
	}
	defer s.close()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	want := burstsOf(n, mtu)
	if state.bursts == want {
		return nil
	}
	if err := s.setBursts(want); err != nil {
		return fmt.Errorf("device: %s: bound its super-packets: %w", state.name, err)
	}
	if t.burstsFound == nil {
		t.burstsFound = &state.bursts
	}
	t.burstsSet = want
	return nil
}

// restoreBursts undoes LimitBursts, unless somebody else has set other bounds
// meanwhile. Nobody minds if that fails: the interface works with ours.
func (t *TUN) restoreBursts() {
	t.mu.Lock()
	found, set := t.burstsFound, t.burstsSet
	t.mu.Unlock()
	if found == nil {
		return
	}
	s, state, err := t.locate()
	if err != nil {
		return
	}
	defer s.close()
	// Before Linux 6.3 there was one bound for both, told as one.
	if state.bursts.size4 == 0 {
		set.size4 = 0
	}
	if state.bursts == set {
		_ = s.setBursts(*found)
	}
}

// setBursts changes the interface that ask has found and waits for the answer.
// A kernel that knows no bound for IPv4 passes over it.
func (s *linkSocket) setBursts(want bursts) error {
	const sequence = 2 // ask has 1
	b := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint16(b[4:], unix.RTM_SETLINK)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	binary.NativeEndian.PutUint32(b[8:], sequence)
	binary.NativeEndian.PutUint32(b[unix.SizeofNlMsghdr+4:], uint32(s.index))
	for _, a := range []struct {
		kind  uint16
		value uint32
	}{
		{linkGSOMaxSegments, want.segments},
		{linkGSOMaxSize, want.size},
		{linkGSOIPv4MaxSize, want.size4},
	} {
		if a.value == 0 {
			continue
		}
		b = binary.NativeEndian.AppendUint16(b, unix.SizeofRtAttr+4)
		b = binary.NativeEndian.AppendUint16(b, a.kind)
		b = binary.NativeEndian.AppendUint32(b, a.value)
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	if err := s.send(b); err != nil {
		return err
	}
	for {
		n, err := s.receive()
		if err != nil {
			return err
		}
		messages, err := syscall.ParseNetlinkMessage(s.buf[:n])
		if err != nil {
			return err
		}
		for i := range messages {
			m := &messages[i]
			if m.Header.Type != unix.NLMSG_ERROR || m.Header.Seq != sequence {
				continue // what is told to all
			}
			if len(m.Data) < 4 {
				return errors.New("the kernel's answer is too short")
			}
			if errno := -int32(binary.NativeEndian.Uint32(m.Data)); errno != 0 {
				return syscall.Errno(errno)
			}
			return nil
		}
	}
}
