// Package capture reads and writes the frames of one interface as they are on its wire, through a packet socket (packet(7)): to
// show, and to test, what passes where.
//
// [Open] begins to capture, [Capture.Read] gives frame after frame, both those that come by the interface and those that leave by
// it; a [Recording] keeps them. The package knows nothing of what is in them.
package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// virtioSize is that of the struct virtio_net_hdr in front of each frame (linux/virtio_net.h), in bytes; its fields:
	virtioSize    = 10
	virtioGSOType = 1 // 0: one packet
	virtioGSOSize = 4

	// longest is what the kernel moves at once, before it is cut for a real wire, and its Ethernet header with two tags.
	longest = virtioSize + 1<<16 + 22
)

// backlog is how many bytes wait to be read before frames are lost.
const backlog = 16 << 20

// Capture is a socket on an interface. One goroutine may read while another writes and a third closes.
type Capture struct {
	file    *os.File
	raw     syscall.RawConn
	buf     [longest]byte
	control [256]byte
}

// Frame is one that has passed.
type Frame struct {
	Data []byte    // from the destination's address to the end of the payload, VLAN tags included
	Sent bool      // it left by the interface; else it came by it
	Cut  int       // not 0: it will be cut, for a real wire, into packets with so many bytes of TCP's or UDP's payload
	At   time.Time // when the kernel saw it
}

// Open captures what passes device, in the network namespace of the calling thread, from now on. Errors wrap those of socket(2)
// and bind(2): EPERM without CAP_NET_RAW, ENODEV without the interface.
func Open(device string) (*Capture, error) {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return nil, fmt.Errorf("capture at %s: %w", device, err)
	}
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("capture at %s: socket: %w", device, err)
	}
	if unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, backlog) != nil {
		_ = unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_RCVBUF, backlog) // as much as the system allows
	}
	err = errors.Join(
		unix.SetsockoptInt(s, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptInt(s, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
		unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.Bind(s, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL), Ifindex: i.Index}))
	if err != nil {
		unix.Close(s)
		return nil, fmt.Errorf("capture at %s: %w", device, err)
	}
	c := &Capture{file: os.NewFile(uintptr(s), "capture at "+device)}
	if c.raw, err = c.file.SyscallConn(); err != nil {
		c.file.Close()
		return nil, fmt.Errorf("capture at %s: %w", device, err)
	}
	return c, nil
}

// bigEndian is a number as it stands in the fields of packet sockets that are in network order.
func bigEndian(n uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, n))
}

// Close ends the capture; a Read that waits returns.
func (c *Capture) Close() error { return c.file.Close() }

// Read waits for the next frame, which is the caller's to keep. After Close the error wraps os.ErrClosed.
func (c *Capture) Read() (f Frame, err error) {
	var n, controls int
	var from unix.Sockaddr
	closed := c.raw.Read(func(fd uintptr) bool {
		for {
			n, controls, _, from, err = unix.Recvmsg(int(fd), c.buf[:], c.control[:], 0)
			if !errors.Is(err, unix.EINTR) { // nothing wakes us a second time for what is there already
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	if closed != nil {
		err = os.ErrClosed // what a RawConn says instead is nobody's to compare
	}
	if err != nil {
		return Frame{}, fmt.Errorf("capture: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(c.control[:controls])
	if err != nil {
		return Frame{}, fmt.Errorf("capture: control messages: %w", err)
	}
	if l, ok := from.(*unix.SockaddrLinklayer); ok {
		f.Sent = l.Pkttype == unix.PACKET_OUTGOING
	}
	if n < virtioSize {
		return Frame{}, fmt.Errorf("capture: %d bytes without a virtio header", n)
	}
	if c.buf[virtioGSOType] != 0 {
		f.Cut = int(binary.NativeEndian.Uint16(c.buf[virtioGSOSize:]))
	}
	f.Data = append(make([]byte, 0, n+tagSize), c.buf[virtioSize:n]...)
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})):
			f.At = time.Unix((*unix.Timespec)(unsafe.Pointer(&m.Data[0])).Unix())
		case m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= int(unsafe.Sizeof(unix.TpacketAuxdata{})):
			f.Data = putTag(f.Data, (*unix.TpacketAuxdata)(unsafe.Pointer(&m.Data[0])))
		}
	}
	return f, nil
}

const (
	addressesSize = 12 // of destination and source
	tagSize       = 4
)

// putTag puts the outer VLAN tag, which the kernel keeps beside the frame, back to its place.
func putTag(frame []byte, aux *unix.TpacketAuxdata) []byte {
	if aux.Status&unix.TP_STATUS_VLAN_VALID == 0 || len(frame) < addressesSize {
		return frame
	}
	tpid := uint16(unix.ETH_P_8021Q)
	if aux.Status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
		tpid = aux.Vlan_tpid
	}
	frame = append(frame, make([]byte, tagSize)...)
	copy(frame[addressesSize+tagSize:], frame[addressesSize:])
	binary.BigEndian.PutUint16(frame[addressesSize:], tpid)
	binary.BigEndian.PutUint16(frame[addressesSize+2:], aux.Vlan_tci)
	return frame
}

// Write has a frame leave by the interface, as it is. Other captures there see it, this one does not.
func (c *Capture) Write(frame []byte) (err error) {
	whole := append(make([]byte, virtioSize, virtioSize+len(frame)), frame...)
	closed := c.raw.Write(func(fd uintptr) bool {
		for {
			if _, err = unix.Write(int(fd), whole); !errors.Is(err, unix.EINTR) {
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	if closed != nil {
		err = os.ErrClosed
	}
	if err != nil {
		return fmt.Errorf("send a frame: %w", err)
	}
	return nil
}
