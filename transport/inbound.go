package transport

import (
	"errors"
	"net"
	"os"
	"time"

	"stunnel/crypto"
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
//  6. A packet without a checksum is known by its mark (partial.go), and
//     dropped unless we trust.
//  7. Length and source address are checked: is this packet's sender this peer?
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
	l.packets, l.partial = l.packets[:0], l.partial[:0]
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
		if len(l.plain[i]) == 0 {
			continue // a keepalive
		}
		data++
		partial := unmarkPartial(l.plain[i])
		if partial && !l.tunnel.trusting.Load() {
			p.drops.add(dropUntrustedChecksum, 1)
			continue
		}
		packet := trim(l.plain[i])
		if packet == nil {
			p.drops.add(dropBadPacket, 1)
			continue
		}
		if owner, _ := routes.source(packet); owner != p {
			p.drops.add(dropBadSource, 1)
			l.tunnel.tell(clueBadSource, now, "peer", p, "source", sourceAddress(packet))
			continue
		}
		l.packets, l.partial = append(l.packets, packet), append(l.partial, partial)
	}
	if accepted == 0 {
		return
	}
	p.rxBytes.Add(uint64(bytes))
	p.authenticatedReceived(now)
	if data > 0 {
		p.dataReceived(now)
	}
	if s.Initiator() && now-s.created >= rekeyOnReceiveAfter && p.sessions.current.Load() == s &&
		p.timers.rekeyedOnReceive.CompareAndSwap(false, true) {
		p.requestHandshake()
	}
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
