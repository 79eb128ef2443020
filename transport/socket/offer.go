package socket

import "golang.org/x/sys/unix"

// offerShare is the part of the send buffer, 1/offerShare, that what is offered may find in use.
const offerShare = 4

// Offer sends one datagram if that can be done at once, and says whether it was. It is for answers that nobody must
// wait for, to addresses that nobody vouches for: datagrams to neighbours that do not exist stay in the send buffer
// for seconds, until the kernel gives up asking for them, and what must be sent would wait behind them.
func (u *UDP) Offer(datagram []byte, to Path) bool {
	if len(datagram) == 0 {
		return false
	}
	s := u.senders.Get().(*sender)
	defer func() {
		s.rest, s.iovec.Base = nil, nil
		u.senders.Put(s)
	}()
	length, err := s.name.set(to.Remote, u.is6)
	if err != nil {
		return false
	}
	s.header.Namelen = length
	s.rest, s.size, s.segmented = datagram, len(datagram), false
	s.setLocal(to)
	sent := false
	err = u.conn.Control(func(fd uintptr) {
		waiting, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		buffer, err2 := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF)
		if err != nil || err2 != nil || waiting > buffer/offerShare {
			return
		}
		s.next()
		errno := u.sendmsg(int(fd), &s.header)
		if errno != 0 && s.local != 0 && isAboutLocal(errno) {
			s.local = 0
			s.next()
			errno = u.sendmsg(int(fd), &s.header)
		}
		sent = errno == 0
	})
	return err == nil && sent
}
