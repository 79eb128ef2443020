package transport

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"stunnel/crypto"
	"stunnel/transport/extension"
	"stunnel/transport/socket"
)

// FuzzCut cuts a packet of any length, set aside as any queue might, for any
// path: the parts are the packet.
func FuzzCut(f *testing.F) {
	f.Add(uint16(1514), uint8(64), uint16(1440), uint16(1420))
	f.Add(uint16(65535), uint8(128), uint16(8200), uint16(9000))
	f.Add(uint16(130), uint8(128), uint16(25), uint16(0))
	f.Add(uint16(100), uint8(1), uint16(16), uint16(50))
	f.Fuzz(func(t *testing.T, length uint16, beside uint8, limit, mtu uint16) {
		whole := make([]byte, length)
		for i := range whole {
			whole[i] = byte(i ^ i>>8)
		}
		n, size := shape(len(whole), int(mtu), int(limit))
		if n == 0 {
			if len(whole) <= maxPacket || limit >= extension.HeaderSize+1 && len(whole) <= maxFragments*(int(limit)-extension.HeaderSize) {
				t.Fatalf("%d bytes are too large for a path of %d", length, limit)
			}
			return
		}
		if n > maxFragments || n > 1 && size > int(limit) || n == 1 && limit > 0 && len(whole) <= int(limit) && size > int(limit) {
			t.Fatalf("%d messages of %d bytes on a path of %d", n, size, limit)
		}
		if n == 1 {
			if size < len(whole) || size > len(whole)+15 {
				t.Fatalf("%d bytes became %d", length, size)
			}
			return
		}
		at := min(len(whole), int(beside)%(maxFirst+1))
		l := newSealer()
		l.cut(whole[:at], whole[at:], n, size)
		if len(l.plain) != n || len(l.heads) > n*maxFirst {
			t.Fatalf("%d fragments, %d bytes beside, want %d", len(l.plain), len(l.heads), n)
		}
		var joined []byte
		for i, p := range l.plain {
			plaintext := slices.Concat(p.First, p.Rest, make([]byte, p.Pad))
			fragment, ok := parseFragment(plaintext)
			if !ok || fragment.index != i || fragment.last != (i == n-1) || len(plaintext) != size {
				t.Fatalf("fragment %d of %d bytes reads as %d, last %v, %v", i, len(plaintext), fragment.index, fragment.last, ok)
			}
			joined = append(joined, fragment.part...)
		}
		if !bytes.Equal(joined, whole) {
			t.Fatal("the parts are not the packet")
		}
	})
}

// fuzzed is one thing that happens in FuzzFragments: time passes, or a fragment
// comes.
type fuzzed struct {
	pass    time.Duration
	lane    int
	session int
	ends    bool // a run of messages
	more    int  // by how much the packet is said to be longer than its first part
	counter int8 // what is added to it
	index   int
	last    bool
	part    int
	cut     bool // the fragment is shorter than it says
}

func readFuzzed(data []byte) (all []fuzzed) {
	for ; len(data) >= 4; data = data[4:] {
		if data[0] == 0xff {
			all = append(all, fuzzed{pass: time.Duration(data[1]) * 10 * time.Millisecond})
			continue
		}
		all = append(all, fuzzed{
			lane: int(data[0] & 1), session: int(data[0]>>1&3) % 3, more: int(data[0]>>3&15) * 100, ends: data[0]&0x80 != 0,
			counter: int8(data[1]),
			index:   int(data[2] >> 1), last: data[2]&1 != 0,
			part: int(data[3]) * int(data[3]) / 2, cut: data[3] == 255,
		})
	}
	return all
}

// FuzzFragments has peers send fragments as the input says. Whatever comes out
// are the parts of counters that follow each other, each used once, and at any
// time the account is true.
func FuzzFragments(f *testing.F) {
	f.Add([]byte{0x60, 0, 0, 50, 0, 1, 3, 50})                            // in order
	f.Add([]byte{0x80, 1, 3, 50, 0xe0, 0xff, 0, 50})                      // the last first
	f.Add([]byte{0x60, 0, 0, 50, 1, 1, 2, 50, 0, 1, 5, 50})               // two lanes
	f.Add([]byte{0x60, 0, 0, 50, 0xff, 100, 0, 0, 0, 1, 3, 50})           // too late
	f.Add([]byte{0x60, 0, 0, 50, 0, 1, 3, 0, 0, 1, 5, 255, 0, 1, 1, 9})   // none is right
	f.Add(bytes.Repeat([]byte{0x80, 9, 0, 50}, 20))                       // many begin
	f.Add(bytes.Repeat([]byte{0x2, 8, 2, 254, 0x4, 8, 4, 254}, 100))      // and are long
	f.Add(bytes.Repeat([]byte{0x20, 1, 0, 40, 0, 1, 2, 40, 1, 1, 5}, 40)) // out of step
	f.Fuzz(func(t *testing.T, data []byte) {
		w := newWaiting(t)
		queue := &stack{}
		for i := range 2 {
			w.lanes = append(w.lanes, newLane(w.Tunnel, i, copying{queue}))
		}
		one, other := w.session(), w.session()
		sessions := []*session{one, {peer: one.peer}, other}
		sources := []string{"10.0.0.1", "10.0.0.1", "10.0.0.3"}
		w.allowedIPs.Insert(netip.MustParsePrefix("10.0.0.1/32"), one.peer)
		w.allowedIPs.Insert(netip.MustParsePrefix("10.0.0.3/32"), other.peer)
		w.allowedIPs.Publish()
		routes := w.allowedIPs.Snapshot()
		for _, s := range sessions {
			s.opens.Store(uint32(w.capabilities()))
		}

		sent := make([]map[crypto.Counter]fragment, len(sessions))
		counters := make([]crypto.Counter, len(sessions))
		for i := range sessions {
			sent[i], counters[i] = make(map[crypto.Counter]fragment), 1<<20
		}
		all := readFuzzed(data)
		for i, e := range all {
			if w.now += e.pass; e.pass > 0 {
				one.peer.expire(w.now)
				other.peer.expire(w.now)
				continue
			}
			counters[e.session] += crypto.Counter(e.counter)
			counter := counters[e.session]
			if _, again := sent[e.session][counter]; !again { // else it is a replay
				part := make([]byte, e.part)
				for i := range part {
					part[i] = byte(int(counter)*31 + i)
				}
				if e.index == 0 && len(part) > ipv4HeaderSize {
					copy(part, packet(sources[e.session], "10.0.0.2", ipv4HeaderSize))
					binary.BigEndian.PutUint16(part[2:], uint16(len(part)+e.more))
				}
				plaintext := plainFragment(e.index, e.last, part, int(counter)%16)
				if e.cut {
					plaintext = plaintext[:len(plaintext)/2]
				}
				sent[e.session][counter] = fragment{e.index, e.last, part}
				w.lanes[e.lane].in.hear(sessions[e.session], socket.Path{}, counter, plaintext, routes, w.now)
			}
			if next := i + 1; e.ends || next == len(all) || all[next].pass > 0 || all[next].lane != e.lane || all[next].session != e.session {
				l := w.lanes[e.lane].in
				l.disperse(sessions[e.session], routes, w.now)
				l.deliver(l.packets, l.partial)
				l.packets, l.partial, l.arena = l.packets[:0], l.partial[:0], l.arena[:0]
			}
			w.check()
		}
		for _, l := range w.lanes {
			if l := l.in; l.gathered.n != 0 || len(l.packets) != 0 {
				t.Fatal("something is left over behind the last run")
			}
		}
		for _, p := range queue.written {
			if !slices.ContainsFunc(sent, func(parts map[crypto.Counter]fragment) bool { return takeRow(parts, p) }) {
				t.Fatalf("a packet of %d bytes came out that nobody sent", len(p))
			}
		}
		w.now += reassemblyTime
		one.peer.expire(w.now)
		other.peer.expire(w.now)
		if w.check(); w.reassembly.held != 0 {
			t.Fatalf("%d bytes are held a second later", w.reassembly.held)
		}
	})
}

// takeRow finds a packet in parts, from a first one to a last one under counters
// that follow each other, and takes them out.
func takeRow(parts map[crypto.Counter]fragment, packet []byte) bool {
	for id, f := range parts {
		var whole []byte
		n := crypto.Counter(0)
		for ok := true; ok && f.index == int(n); f, ok = parts[id+n] {
			whole = append(whole, f.part...)
			if n++; !f.last {
				continue
			}
			if n > 1 && len(packet) <= len(whole) && bytes.Equal(packet, whole[:len(packet)]) {
				for ; n > 0; n-- {
					delete(parts, id+n-1)
				}
				return true
			}
			break
		}
	}
	return false
}
