package transport

import (
	"net/netip"
	"time"
)

// Refusals (ICMP unreachable) per tunnel: a burst, then one per interval.
const (
	refusalBurst    = 50
	refusalInterval = 10 * time.Millisecond
)

// The way of a packet out, one goroutine per lane:
//
//  1. The queue gives what the local stack has sent: a burst.
//  2. Each run of packets with the same destination peer is taken together.
//     What the tunnel itself has sent is taken out (loop.go).
//  3. Checksums that the local stack has left are completed, unless the peer
//     takes the packet without (partial.go).
//  4. Under the peer's session, if there is one (send.go): counters for the
//     whole run, padding, sealing straight into trains, one send per train.
//  5. Without one the run is copied and staged, and a handshake asked for.
//  6. What belongs to no peer is answered with an ICMP unreachable; the sender of
//     what is longer than the path carries is told how much does (toobig.go).
//
// Frames go another way in the second step (outboundframes.go).

// runOutbound ends with the queue's error: closed, or the device is gone.
func (l *lane) runOutbound() error {
	for {
		first, rest, partial, err := l.queue.Read()
		if err != nil {
			return err
		}
		l.outbound(first, rest, partial, l.tunnel.now())
	}
}

// outbound sends one burst: packet i is first[i] followed by rest[i], and has
// no checksum yet if partial[i].
func (l *lane) outbound(first, rest [][]byte, partial []bool, now time.Duration) {
	t := l.tunnel
	if t.lan != nil {
		l.outboundFrames(frames{first, rest, partial}, now)
		return
	}
	routes := t.allowedIPs.Snapshot()
	sock := l.socket()
	for start := 0; start < len(first); {
		p, _ := routes.destination(first[start])
		end := start + 1
		for end < len(first) {
			if next, _ := routes.destination(first[end]); next != p {
				break
			}
			end++
		}
		switch {
		case sock == nil:
			t.drops.add(dropDown, end-start)
		case t.local.Load() == nil:
			t.drops.add(dropNoKey, end-start)
			l.refuse(first[start:end], rest[start:end], partial[start:end], now)
		case p == nil:
			for _, b := range first[start:end] {
				if isMulticast(b) {
					t.drops.add(dropNoPeerMulticast, 1)
				} else {
					t.drops.add(dropNoPeer, 1)
				}
			}
			l.refuse(first[start:end], rest[start:end], partial[start:end], now)
		case p.isNowhere():
			p.drops.add(dropNoEndpoint, end-start)
			l.refuse(first[start:end], rest[start:end], partial[start:end], now)
		default:
			l.answerTooBig(p, first[start:end], rest[start:end], partial[start:end], now)
			l.sendApart(p, sock, first[start:end], rest[start:end], partial[start:end], now)
		}
		start = end
	}
}

// refuse tells the senders of packets that can go nowhere, within a rate.
func (l *lane) refuse(first, rest [][]byte, partial []bool, now time.Duration) {
	for i := range first {
		if !l.tunnel.refusals.Allow(now) {
			return
		}
		l.complete(first[i:i+1], rest[i:i+1], partial[i:i+1])
		packet := append(append([]byte(nil), first[i]...), rest[i]...)
		if answer := unreachable(nil, packet, netip.Addr{}, netip.Addr{}); answer != nil {
			l.deliver([][]byte{answer}, nil)
		}
	}
}
