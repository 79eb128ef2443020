package device

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// settings are what attaching changes in a persistent TUN or TAP and what outlives
// the descriptor: the flags of TUNSETIFF. The interface of another process
// (FromFD) has none known, and keeps ours.
type settings struct {
	known bool
	flags uint16
	held  uint32 // queues that are attached, if it may have many
}

// Attributes of IFLA_INFO_DATA of a TUN (linux/if_link.h), each one byte.
const (
	infoTunType       = 3
	infoTunPI         = 4
	infoTunVnetHeader = 5
	infoTunMultiQueue = 7
	infoTunQueues     = 8 // four bytes
)

// lookSettings asks rtnetlink what a TUN or TAP of that name is like before we attach
// to it, in the calling thread's namespace.
func lookSettings(name string) (s settings) {
	if name == "" {
		return s
	}
	socket, err := openLinkSocket(inNamespace, -1)
	if err != nil {
		return s
	}
	defer socket.close()
	if socket.ask(name) != nil {
		return s
	}
	state, err := socket.next()
	if err != nil || state.info == nil {
		return s
	}
	return parseSettings(state.info)
}

// parseSettings reads an IFLA_LINKINFO attribute.
func parseSettings(info []byte) (s settings) {
	attributes(info, func(kind uint16, value []byte) {
		switch kind {
		case unix.IFLA_INFO_KIND:
			s.known = unix.ByteSliceToString(value) == "tun"
		case unix.IFLA_INFO_DATA:
			s.flags = unix.IFF_TUN | unix.IFF_NO_PI
			attributes(value, func(kind uint16, value []byte) {
				on := len(value) == 1 && value[0] != 0
				switch {
				case kind == infoTunQueues && len(value) == 4:
					s.held = binary.NativeEndian.Uint32(value)
				case kind == infoTunType && len(value) == 1 && value[0] == unix.IFF_TAP:
					s.flags ^= unix.IFF_TUN | unix.IFF_TAP
				case kind == infoTunPI && on:
					s.flags &^= unix.IFF_NO_PI
				case kind == infoTunVnetHeader && on:
					s.flags |= unix.IFF_VNET_HDR
				case kind == infoTunMultiQueue && on:
					s.flags |= unix.IFF_MULTI_QUEUE
				}
			})
		}
	})
	return s
}

// restore gives an interface that was there before us what attaching changed:
// offloads at once, and with the function that it returns, after the queues are
// closed, the flags. Nobody minds if the interface has gone, or if somebody
// else was quick enough to attach: he has set his own.
func (t *TUN) restore() (afterClose func()) {
	nothing := func() {}
	t.mu.Lock()
	handed := t.handed
	t.mu.Unlock()
	name, err := t.currentName()
	if err != nil || handed {
		return nothing
	}
	t.restoreBursts()
	_ = t.control(func(fd uintptr) {
		if t.virtio {
			_ = setOffload(int(fd), 0)
		}
		if t.steered {
			unsteer(int(fd))
		}
	})
	now := typeFlag(t.ethernet) | unix.IFF_NO_PI
	if t.virtio {
		now |= unix.IFF_VNET_HDR
	}
	const multi = unix.IFF_MULTI_QUEUE // we had no choice
	if !t.before.known || t.before.flags&^multi == now {
		return nothing
	}
	ns, err := t.namespace()
	if err != nil {
		return nothing
	}
	return func() {
		_ = t.enter(ns, func() error {
			// The namespace is that of the thread that opens.
			fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			_, err = setInterface(fd, name, t.before.flags)
			return errors.Join(err, unix.Close(fd))
		})
		if ns >= 0 {
			_ = unix.Close(ns)
		}
	}
}
