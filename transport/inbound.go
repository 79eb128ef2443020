package transport

import (
	"errors"
	"net"
	"os"
	"time"

	"stunnel/crypto"
	"stunnel/transport/extension"
	"stunnel/transport/socket"
)

// The way of a packet in, one goroutine per lane:
//
//  1. The socket gives a burst of datagrams.
//  2. Each run of transport messages with the same receiver index is taken
//     together; handshake messages are checked and queued (intake.go).
//  3. Their session opens them in place, all at once: one verdict each.
//  4. The replay window decides, once, before anything else happens.
//  5. The session is confirmed, timers are set, the endpoint follows.
//  6. Fragments become packets again (gather.go); what else is an extension and
//     no packet goes its own way here (control.go).
//  7. Length and source address are checked: is this packet's sender this peer?
//     Frames are switched (inboundframes.go).
//     A checksum that its stack has left is left to ours, if we have said that
//     we trust (partial.go).
//  8. What passed goes to the queue, the whole burst in one write.
//  9. The local stack may have answered already: one look, and if so the answer
//     leaves (outbound.go) before the other goroutine of the lane has woken up.

// runInbound receives from one socket until that is closed.
func (l *lane) runInbound(sock Socket) error {
	for {
		burst, err := sock.Receive()
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		l.inbound(burst, l.tunnel.now())
	}
}

func (l *lane) inbound(burst []socket.Datagram, now time.Duration) {
	l.packets, l.partial, l.arena = l.packets[:0], l.partial[:0], l.arena[:0]
	for start := 0; start < len(burst); {
		typ, ok := crypto.Type(burst[start].Data)
		end := start + 1
		switch {
		case !ok:
			l.tunnel.drops.add(dropMalformed, 1)
		case typ == crypto.TypeTransport:
			index := crypto.Receiver(burst[start].Data)
			for end < len(burst) && isTransportFor(burst[end].Data, index) {
				end++
			}
			l.open(index, burst[start:end], now)
		default:
			l.tunnel.intake(typ, burst[start], now)
		}
		start = end
	}
	if len(l.packets) > 0 {
		l.deliver(l.packets, l.partial)
		l.queue.Look(l.answer)
	}
}

func isTransportFor(msg []byte, index crypto.Index) bool {
	typ, ok := crypto.Type(msg)
	return ok && typ == crypto.TypeTransport && crypto.Receiver(msg) == index
}

// open takes a run of transport messages under one index.
func (l *lane) open(index crypto.Index, run []socket.Datagram, now time.Duration) {
	s := l.tunnel.indices.lookup(index).session
	if s == nil {
		l.tunnel.drops.add(dropUnknownIndex, len(run))
		return
	}
	if s.expired(now) || !s.acquire() {
		s.peer.drops.add(dropExpiredSession, len(run))
		return
	}
	defer s.release()

	// What is certainly a replay is not worth opening; the decision comes later.
	l.msgs, l.from = l.msgs[:0], l.from[:0]
	for i := range run {
		if !s.replay.Check(crypto.MessageCounter(run[i].Data)) {
			s.peer.drops.add(dropReplayed, 1)
			continue
		}
		l.msgs, l.from = append(l.msgs, run[i].Data), append(l.from, run[i].Path)
	}
	for len(l.plain) < len(l.msgs) {
		l.plain = append(l.plain, nil)
	}
	s.Open(l.msgs, l.plain)
	l.accept(s, now)
}

// accept takes what open has opened: l.msgs, l.from, l.plain.
func (l *lane) accept(s *session, now time.Duration) {
	p := s.peer
	routes := l.tunnel.allowedIPs.Snapshot()
	var bytes, accepted, data int
	for i, msg := range l.msgs {
		counter := crypto.MessageCounter(msg)
		switch {
		case l.plain[i] == nil:
			p.drops.add(dropNotAuthentic, 1)
			continue
		case !s.replay.Accept(counter):
			p.drops.add(dropReplayed, 1)
			continue
		}
		if accepted++; accepted == 1 && p.sessions.current.Load() != s {
			p.confirm(s, now)
		}
		bytes += len(msg)
		if s.replay.Newest() == counter {
			p.move(s, l.from[i])
		}
		switch plain := l.plain[i]; {
		case len(plain) == 0: // a keepalive
		case plain[0]>>4 == 0:
			if l.hear(s, l.from[i], counter, plain, routes, now) {
				data++
			}
		default:
			data++
			l.admit(s, plain, routes, now)
		}
	}
	l.disperse(s, routes, now)
	l.forward(p, now)
	if accepted == 0 {
		return
	}
	p.rxBytes.Add(uint64(bytes))
	p.authenticatedReceived(now)
	if data > 0 && p.sessions.current.Load() != nil { // else it was said behind a goodbye
		p.dataReceived(now)
		p.wantEcho(s, now)
		p.sayHelloAgain(now)
	}
	if l.greeted {
		l.greeted = false
		p.acknowledgeHello(now)
	} else {
		p.sayHello(now)
	}
	if s.Initiator() && now-s.created >= rekeyOnReceiveAfter && p.sessions.current.Load() == s &&
		p.timers.rekeyedOnReceive.CompareAndSwap(false, true) {
		p.requestHandshake()
	}
}

// admit puts the packet in a plaintext, whatever brought it, to those that go
// to the queue, if it may pass.
func (l *lane) admit(s *session, plaintext []byte, routes *routes[*peer], now time.Duration) {
	p := s.peer
	if l.tunnel.lan != nil {
		l.admitFrame(s, plaintext)
		return
	}
	partial := unmarkPartial(plaintext)
	if partial && !s.mayGet(extension.TrustedChecksums) {
		p.drops.add(dropUntrustedChecksum, 1)
		return
	}
	packet := trim(plaintext)
	if packet == nil {
		p.drops.add(dropBadPacket, 1)
		return
	}
	if p.silenced(s) {
		p.drops.add(dropBeforeHello, 1)
		return
	}
	if owner, _ := routes.source(packet); owner != p {
		p.drops.add(dropBadSource, 1)
		l.tunnel.tell(clueBadSource, now, "peer", p, "source", sourceAddress(packet))
		return
	}
	l.packets, l.partial = append(l.packets, packet), append(l.partial, partial)
}

// deliver hands packets to the local stack, partial ones as such. Both
// directions of a lane do.
func (l *lane) deliver(packets [][]byte, partial []bool) {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.queue.Write(packets, partial); err != nil {
		l.tunnel.drops.add(dropWriteFailed, len(packets))
	}
}
