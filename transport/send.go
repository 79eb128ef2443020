package transport

import (
	"errors"
	"sync"
	"time"

	"stunnel/crypto"
	"stunnel/transport/extension"
	"stunnel/transport/socket"
)

// Bounds of what is sealed in one go: the arena of a sealer, and a train that
// one send takes (UDP_SEGMENT's limits; 65,507 is the largest UDP payload).
const (
	sealerSize     = 128 << 10
	sealerPackets  = 256
	maxTrainLength = 64
	maxTrainBytes  = 65507

	maxPacket = maxTrainBytes - crypto.TransportOverhead
)

// TrainLength is how many packets of the MTU, sealed, one send takes.
func TrainLength(mtu int) int {
	return max(1, min(maxTrainLength, maxTrainBytes/(mtu+crypto.TransportOverhead)))
}

// sealer turns packets into trains on the wire. It owns the memory for that;
// one goroutine uses it at a time.
type sealer struct {
	plain []crypto.Plaintext
	out   []byte
	heads []byte  // the beginnings of fragments; nil until there are some
	later []*peer // of a flood, those that get it after the others
}

func newSealer() *sealer {
	return &sealer{plain: make([]crypto.Plaintext, 0, sealerPackets), out: make([]byte, 0, sealerSize)}
}

// sealers are for what is sent beside the lanes: staged packets, keepalives.
var sealers = sync.Pool{New: func() any { return newSealer() }}

// putBack returns a sealer to sealers, without the packets that it has sealed.
func (l *sealer) putBack() {
	clear(l.plain)
	sealers.Put(l)
}

// send seals packets, each first[i] followed by rest[i], under s and sends
// them by sock. s is usable and acquired. It returns how many packets were
// taken: all, but for the end of the session's counters.
func (l *sealer) send(s *session, sock Socket, first, rest [][]byte, now time.Duration) int {
	taken := 0
	for taken < len(first) {
		n := l.seal(s, first[taken:], rest[taken:])
		if n == 0 {
			break
		}
		taken += n
		s.peer.watched.sees(l.transmit(s, sock))
	}
	if taken > 0 {
		s.peer.sent(s, first[:taken], now)
	}
	return taken
}

// seal fills out with messages of as many packets as it has room for, and
// returns their number; packets too large for any datagram, or for all the
// fragments that there may be of one, are counted and passed over with them. A
// packet's fragments are sealed in one go, under counters reserved together.
func (l *sealer) seal(s *session, first, rest [][]byte) int {
	p, mtu, limit := s.peer, s.peer.tunnel.plaintextMTU(), s.limit()
	l.plain, l.out, l.heads = l.plain[:0], l.out[:0], l.heads[:0]
	taken, room := 0, cap(l.out)
	for taken < len(first) {
		length, most := len(first[taken])+len(rest[taken]), limit
		if length > limit && !extension.IsDivisible(first[taken][0]) {
			most = 0
		}
		n, size := shape(length, mtu, most)
		if n == 0 {
			p.drops.add(dropTooLarge, 1)
			taken++
			continue
		}
		if room -= n * (size + crypto.TransportOverhead); room < 0 || n > cap(l.plain)-len(l.plain) {
			break
		}
		if n == 1 {
			l.plain = append(l.plain, crypto.Plaintext{First: first[taken], Rest: rest[taken], Pad: size - length})
		} else {
			l.cut(first[taken], rest[taken], n, size)
		}
		taken++
	}
	if len(l.plain) == 0 {
		return taken
	}
	counter, ok := s.Reserve(len(l.plain))
	if !ok {
		return 0
	}
	l.out = s.Seal(l.out, counter, l.plain)
	return taken
}

// padding is the number of zero bytes that fill a packet of length bytes up to
// a multiple of 16 (of what is beyond the MTU, where it is larger). A packet
// whose multiple is beyond the MTU gets none at all: the route it came by may
// be narrower than the device, which we cannot see (the kernel, which can, pads
// such a packet up to that route's MTU).
func padding(length, mtu int) int {
	if mtu > 0 && length > mtu {
		length %= mtu
	}
	pad := -length & 15
	if mtu > 0 && length+pad > mtu {
		return 0
	}
	return pad
}

// transmit cuts out into trains, runs of equal messages of which the last may
// be shorter, and sends each. largest is the size of the longest message.
func (l *sealer) transmit(s *session, sock Socket) (largest int) {
	p, path, whole := s.peer, s.way(), s.whole()
	if path == nil {
		p.drops.add(dropNoEndpoint, len(l.plain))
		return 0
	}
	for i, rest := 0, l.out; i < len(l.plain); {
		size := messageSize(&l.plain[i])
		bytes := size
		largest = max(largest, size)
		for i++; i < len(l.plain); i++ {
			next := messageSize(&l.plain[i])
			if next > size || bytes+next > maxTrainBytes || bytes >= maxTrainLength*size {
				break
			}
			if bytes += next; next < size {
				i++
				break
			}
		}
		if size > largeMessage && path.Stream == nil {
			p.sentLarge()
		}
		p.watched.sees(size)
		p.transmit(sock, rest[:bytes], size, path, whole)
		rest = rest[bytes:]
	}
	return largest
}

func messageSize(p *crypto.Plaintext) int {
	return len(p.First) + len(p.Rest) + p.Pad + crypto.TransportOverhead
}

// sent is what follows for timers and keys when packets of which first are the
// beginnings, empty ones of keepalives, have been sent under s.
func (p *peer) sent(s *session, first [][]byte, now time.Duration) {
	p.authenticatedSent(now)
	for i := range first {
		if len(first[i]) > 0 {
			p.dataSent(now)
			p.wantEcho(s, now)
			p.sends(s, now)
			p.wantProbe(s, now)
			break
		}
	}
	stale := s.Sent() > crypto.RekeyAfterMessages || s.Initiator() && now-s.created >= RekeyAfterTime
	if stale && now >= p.nextInitiation(s.carrier()) {
		p.requestRenewal()
	}
}

// sendOrStage sends a run of one peer's packets, partial ones as such if the
// peer trusts, or stages them all complete and asks for a handshake. They are sealed
// with a sealer that is the caller's.
func (l *lane) sendOrStage(p *peer, with *sealer, sock Socket, first, rest [][]byte, partial []bool, now time.Duration) {
	if p.staging.n.Load() == 0 {
		if s := p.usable(now); s != nil && !p.silenced(s) && s.acquire() {
			keeps := p.watched.keeps.Load()
			if s.may(extension.TrustedChecksums) && p.tunnel.trusted.Load() && !keeps {
				l.markPartial(first, partial)
			} else {
				l.complete(first, rest, partial)
			}
			if keeps {
				p.keep(first, rest)
			}
			n := with.send(s, sock, first, rest, now)
			s.release()
			first, rest, partial = first[n:], rest[n:], partial[n:]
		}
	}
	if len(first) == 0 {
		return
	}
	if p.deaf.Load() && p.staysSilent(now) {
		p.drops.add(dropOtherMode, len(first))
	} else {
		l.complete(first, rest, partial)
		p.drops.add(dropStagingFull, p.staging.add(first, rest))
	}
	p.sendStaged(now)
}

// sendStaged sends what is staged if there is a session for it, and else asks
// for one, or, where that must come first, for the peer's hello.
func (p *peer) sendStaged(now time.Duration) {
	if p.staysSilent(now) {
		p.sayHelloAgain(now)
		p.dataSent(now) // a peer that is gone is found as if it had been
		return
	}
	p.staging.take(func(packets [][]byte) bool {
		return p.sendNow(packets, now)
	})
}

// sendKeepalive sends what is staged, or else an empty message.
func (p *peer) sendKeepalive(now time.Duration) {
	if p.staging.n.Load() > 0 && !p.staysSilent(now) {
		p.sendStaged(now)
		return
	}
	p.sendNow([][]byte{nil}, now)
}

// staysSilent says whether there is a session and packets must wait all the same.
func (p *peer) staysSilent(now time.Duration) bool {
	s := p.usable(now)
	return s != nil && p.silenced(s)
}

// sendNow sends packets beside the lanes; false: there is no session, and a
// handshake has been asked for.
func (p *peer) sendNow(packets [][]byte, now time.Duration) bool {
	s := p.usable(now)
	if s != nil && p.silenced(s) && len(packets[0]) > 0 {
		return false
	}
	if s == nil || !s.acquire() {
		p.requestHandshake()
		return false
	}
	defer s.release()
	l := sealers.Get().(*sealer)
	defer l.putBack()
	n := l.send(s, p.tunnel.controlSocket(), packets, make([][]byte, len(packets)), now)
	p.drops.add(dropExpiredSession, len(packets)-n)
	return true
}

// sendSealed sends one message that is ready for the wire beside the lanes, by a connection or, where that is nil, by UDP to
// where the peer is.
func (p *peer) sendSealed(message []byte, stream *socket.Path) {
	path := stream
	if path == nil {
		path = p.path.Load()
	}
	if path != nil {
		p.transmit(p.tunnel.controlSocket(), message, len(message), path, false)
	}
}

// transmit sends a train and counts it. size is the length of its messages but
// the last, which may be shorter. whole: over UDP they pass whole, or not at all.
func (p *peer) transmit(sock Socket, train []byte, size int, path *socket.Path, whole bool) {
	var err error
	turns := &p.tunnel.turns
	turns.take(p)
	switch {
	case sock == nil:
		p.drops.add(dropDown, (len(train)+size-1)/size)
		return
	case path.Stream != nil && turns.areShared(p.tunnel.now()):
		err = path.Stream.Try(train, size)
	case path.Stream != nil:
		err = path.Stream.Send(train, size)
	default:
		to := *path
		to.Whole = whole
		err = sock.Send(train, size, to)
	}
	switch {
	case errors.Is(err, socket.ErrLocalGone):
		p.path.CompareAndSwap(path, &socket.Path{Remote: path.Remote})
	case errors.Is(err, socket.ErrTooLong):
		if p.tooLong(size) {
			p.drops.add(dropSendFailed, (len(train)+size-1)/size)
		}
		return
	case errors.Is(err, socket.ErrStalled):
		p.drops.add(dropStalled, (len(train)+size-1)/size)
		return
	case err != nil:
		p.drops.add(dropSendFailed, (len(train)+size-1)/size)
		return
	}
	p.txBytes.Add(uint64(len(train)))
}
