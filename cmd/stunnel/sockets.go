package main

import (
	"context"
	"net/netip"
	"time"

	"stunnel/cmd/internal/conf"
	"stunnel/transport"
	"stunnel/transport/socket"
)

// socketOptions are those of all sockets of the tunnel.
func (t *running) socketOptions(mark uint32) socket.Options {
	return socket.Options{Mark: mark, NoOffload: !t.offload, Address: t.address, Device: t.bound, Lost: t.lose, Full: t.refuse}
}

// socketAddress is the one at which the sockets of in are to be; a link-local one has its interface as the zone.
func socketAddress(in *conf.Interface) netip.Addr {
	if a := in.ListenAddress; a.Is6() && a.IsLinkLocalUnicast() {
		return a.WithZone(in.BindDevice)
	}
	return in.ListenAddress
}

// listen is socket.Listen as the engine wants it.
func (t *running) listen(port uint16, n int, mark uint32) ([]transport.Socket, error) {
	open, err := socket.Listen(port, n, t.socketOptions(mark))
	if err != nil {
		return nil, err
	}
	sockets := make([]transport.Socket, len(open))
	for i, s := range open {
		sockets[i] = s
	}
	return sockets, nil
}

// listenTCP is socket.ListenTCP as the engine wants it.
func (t *running) listenTCP(port uint16, mark uint32) (transport.Listener, error) {
	l, err := socket.ListenTCP(port, t.socketOptions(mark))
	if err != nil {
		return nil, err
	}
	return l, nil
}

// dial is socket.Dial as the engine wants it.
func (t *running) dial(ctx context.Context, remote netip.AddrPort, mark uint32) (socket.Stream, error) {
	c, err := socket.Dial(ctx, remote, t.socketOptions(mark))
	if err != nil {
		return nil, err
	}
	return c, nil
}

// lose says once that an offload of the sockets was given up.
func (t *running) lose(offload, why string) {
	if _, told := t.lost.LoadOrStore(offload, true); !told {
		t.log.Warn("an offload is given up", "offload", offload, "why", why)
	}
}

// refuse says once a minute that no connection can be taken.
func (t *running) refuse(why error) {
	now, last := time.Now().Unix(), t.full.Load()
	if now-last >= 60 && t.full.CompareAndSwap(last, now) {
		t.log.Warn("TCP connections cannot be taken", "why", why)
	}
}
