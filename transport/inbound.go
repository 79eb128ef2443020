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

// receiver is what one goroutine works with that takes messages in for a lane: that of its socket, and any that reads from a
// connection, which has one only as long as it takes.
type receiver struct {
	*lane

	// the messages of one run, where they came from, what they held;
	// the packets of the whole burst that passed
	msgs    [][]byte
	from    []socket.Path
	plain   [][]byte
	packets [][]byte
	partial []bool // of packets
	greeted bool   // a hello in the run is to be acknowledged

	// messages under known sessions that were accepted, and that did not open: a connection looks at them
	accepted, forged int

	// in tap mode: frames of one run that passed; and for those that go to
	// another peer how they are given to relayer, which is nil until there are some
	arrived []arrival
	relayed frames
	relayer *sealer

	gathered gathering // fragments of a packet, one behind the other
	arena    []byte    // and packets made of fragments, of one burst; nil until there are some
}

// runInbound receives from one socket until that is closed.
func (r *receiver) runInbound(sock Socket) error {
	for {
		burst, err := sock.Receive()
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		r.inbound(burst, r.tunnel.now())
	}
}

func (r *receiver) inbound(burst []socket.Datagram, now time.Duration) {
	r.packets, r.partial, r.arena = r.packets[:0], r.partial[:0], r.arena[:0]
	for start := 0; start < len(burst); {
		typ, ok := crypto.Type(burst[start].Data)
		end := start + 1
		switch {
		case !ok:
			r.tunnel.drops.add(dropMalformed, 1)
		case typ == crypto.TypeTransport:
			index := crypto.Receiver(burst[start].Data)
			for end < len(burst) && isTransportFor(burst[end].Data, index) {
				end++
			}
			r.open(index, burst[start:end], now)
		default:
			r.tunnel.intake(typ, burst[start], now, nil)
		}
		start = end
	}
	if len(r.packets) > 0 {
		r.deliver(r.packets, r.partial)
		r.queue.Look(r.answer)
	}
}

func isTransportFor(msg []byte, index crypto.Index) bool {
	typ, ok := crypto.Type(msg)
	return ok && typ == crypto.TypeTransport && crypto.Receiver(msg) == index
}

// open takes a run of transport messages under one index.
func (r *receiver) open(index crypto.Index, run []socket.Datagram, now time.Duration) {
	s := r.tunnel.indices.lookup(index).session
	if s == nil {
		r.tunnel.drops.add(dropUnknownIndex, len(run))
		return
	}
	if s.expired(now) || !s.acquire() {
		s.peer.drops.add(dropExpiredSession, len(run))
		return
	}
	defer s.release()

	// What is certainly a replay is not worth opening; the decision comes later.
	r.msgs, r.from = r.msgs[:0], r.from[:0]
	for i := range run {
		if !s.replay.Check(crypto.MessageCounter(run[i].Data)) {
			s.peer.drops.add(dropReplayed, 1)
			continue
		}
		r.msgs, r.from = append(r.msgs, run[i].Data), append(r.from, run[i].Path)
	}
	for len(r.plain) < len(r.msgs) {
		r.plain = append(r.plain, nil)
	}
	s.Open(r.msgs, r.plain)
	r.accept(s, now)
}

// accept takes what open has opened: r.msgs, r.from, r.plain.
func (r *receiver) accept(s *session, now time.Duration) {
	p := s.peer
	routes := r.tunnel.allowedIPs.Snapshot()
	var bytes, largest, accepted, data int
	confirmed := p.sessions.current.Load() == s
	for i, msg := range r.msgs {
		counter := crypto.MessageCounter(msg)
		switch {
		case r.plain[i] == nil:
			p.drops.add(dropNotAuthentic, 1)
			r.forged++
			continue
		case !s.replay.Accept(counter):
			p.drops.add(dropReplayed, 1)
			continue
		}
		accepted++
		if !confirmed && s.cameBy(&r.from[i]) && !isTrial(r.plain[i]) {
			p.confirm(s, now)
			confirmed = true
		}
		bytes += len(msg)
		if s.replay.Newest() == counter {
			p.move(s, r.from[i])
		}
		switch plain := r.plain[i]; {
		case len(plain) == 0: // a keepalive
		case plain[0]>>4 == 0:
			if r.hear(s, r.from[i], counter, plain, routes, now) {
				data, largest = data+1, max(largest, len(msg))
			}
		default:
			data, largest = data+1, max(largest, len(msg))
			r.admit(s, plain, routes, now)
		}
	}
	r.disperse(s, routes, now)
	r.forward(p, now)
	if accepted == 0 {
		return
	}
	r.accepted += accepted
	p.rxBytes.Add(uint64(bytes))
	p.watched.sees(largest)
	p.authenticatedReceived(now)
	if data > 0 && p.sessions.current.Load() != nil { // else it was said behind a goodbye
		p.dataReceived(now)
		p.wantEcho(s, now)
		p.hears(s, now)
		p.wantProbe(s, now)
		p.sayHelloAgain(now)
	}
	if r.greeted {
		r.greeted = false
		p.acknowledgeHello(now)
	} else {
		p.sayHello(now)
	}
	if s.Initiator() && now-s.created >= rekeyOnReceiveAfter && p.sessions.current.Load() == s &&
		p.timers.rekeyedOnReceive.CompareAndSwap(false, true) {
		p.requestRenewal()
	}
}

// admit puts the packet in a plaintext, whatever brought it, to those that go
// to the queue, if it may pass.
func (r *receiver) admit(s *session, plaintext []byte, routes *routes[*peer], now time.Duration) {
	p := s.peer
	if r.tunnel.lan != nil {
		r.admitFrame(s, plaintext)
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
		if isChatter(packet) {
			p.drops.add(dropNoPeerMulticast, 1)
			return
		}
		p.drops.add(dropBadSource, 1)
		r.tunnel.tell(clueBadSource, now, "peer", p, "source", sourceAddress(packet))
		return
	}
	r.packets, r.partial = append(r.packets, packet), append(r.partial, partial)
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
