package transport

import (
	"time"

	"stunnel/crypto"
	"stunnel/transport/socket"
)

// intake checks a handshake message, as cheaply as can be, before it may take
// a place in the queue: a flood of garbage must not push out what is good. verdict,
// if it is not nil, is told whether an initiation was answered; false: it was not even queued.
//
// The source of what comes by a TCP connection has proved that it is where it says.
func (t *Tunnel) intake(typ crypto.MessageType, d socket.Datagram, now time.Duration, verdict chan<- bool) (queued bool) {
	local := t.local.Load()
	if local == nil {
		t.drops.add(dropNoKey, 1)
		return false
	}
	if typ == crypto.TypeCookieReply {
		t.consumeCookie(d.Data, now)
		return false
	}
	if !local.cookies.CheckMAC1(d.Data) {
		t.drops.add(dropBadMAC1, 1)
		if typ == crypto.TypeInitiation {
			t.tell(clueOtherKey, now, "from", d.Path.Remote)
		}
		return false
	}
	if typ == crypto.TypeResponse && !t.indices.pending(crypto.Receiver(d.Data)) {
		t.drops.add(dropUnknownIndex, 1)
		return false
	}
	if t.underLoad(now) {
		switch {
		case d.Path.Stream == nil && !local.cookies.CheckMAC2(d.Data, d.Path.Remote, now):
			t.drops.add(dropUnderLoad, 1)
			t.offerCookie(local.cookies.Reply(d.Data, d.Path.Remote, now), d.Path)
			return false
		case !t.limiter.Allow(d.Path.Remote.Addr(), now):
			t.drops.add(dropRateLimited, 1)
			return false
		}
	}
	m := &queuedHandshake{path: d.Path, len: len(d.Data), verdict: verdict}
	copy(m.msg[:], d.Data)
	select {
	case t.handshakes <- m:
		return true
	default:
		t.drops.add(dropQueueFull, 1)
		return false
	}
}

// underLoad says whether sources must prove themselves: while the queue is an
// eighth full, and for a second after. So those that have not fill no more.
func (t *Tunnel) underLoad(now time.Duration) bool {
	if len(t.handshakes) >= underLoadAt {
		t.loadUntil.Store(int64(now + underLoadFor))
		return true
	}
	return int64(now) < t.loadUntil.Load()
}

// offerCookie sends a cookie reply, which is smaller than what it answers, if
// that can be done at once: addresses that do not exist must not fill the
// socket's buffer. Lost is lost, the sender tries again.
func (t *Tunnel) offerCookie(reply []byte, to socket.Path) {
	if sock := t.controlSocket(); sock != nil && !sock.Offer(reply, to) {
		t.drops.add(dropSendFailed, 1)
	}
}

// consumeCookie takes a cookie for our next handshake message. It proves
// nothing about where it came from: the endpoint stays.
func (t *Tunnel) consumeCookie(reply []byte, now time.Duration) {
	p := t.indices.lookup(crypto.Receiver(reply)).peer
	if p == nil {
		t.drops.add(dropUnknownIndex, 1)
		return
	}
	p.mu.Lock()
	jar := p.jar
	p.mu.Unlock()
	if jar == nil || !jar.Consume(reply, now) {
		p.drops.add(dropBadCookie, 1)
		return
	}
	p.rxBytes.Add(uint64(len(reply)))
}
