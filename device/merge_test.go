package device

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

func FuzzMergeGivesBackTheSuperPacket(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		for i := range uint64(20) {
			checkMerge(t, randomStream(rand.New(rand.NewPCG(seed, i))))
		}
	})
}

func checkMerge(t *testing.T, s stream) {
	segments, ok := splitAll(s.whole())
	if !ok {
		t.Fatal("not taken")
	}
	h, p := s.whole()
	carriedPackets.checkMergedTo(t, segments, h, p)
}

// FuzzMergeLosesAndInventsNothing damages and shuffles streams: what merging
// made of them, split again, must be the very same packets in the same order.
func FuzzMergeLosesAndInventsNothing(f *testing.F) {
	for seed := range uint64(64) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		for i := range uint64(5) {
			checkDamaged(t, rand.New(rand.NewPCG(seed, i)))
		}
	})
}

func checkDamaged(t *testing.T, r *rand.Rand) {
	train := damagedTrain(r)
	var original [][]byte
	for _, p := range train {
		original = append(original, bytes.Clone(p))
	}
	carriedPackets.checkRoundTrip(t, train, make([]bool, len(train)), original)
}

func damagedTrain(r *rand.Rand) (train [][]byte) {
	for range 1 + r.IntN(4) {
		train = append(train, randomStream(r).packets()...)
	}
	for range r.IntN(10) {
		train = damage(r, train)
	}
	return train
}

// damage changes one thing of a train, with its sums repaired or not.
func damage(r *rand.Rand, train [][]byte) [][]byte {
	if len(train) == 0 {
		return train
	}
	i, j := r.IntN(len(train)), r.IntN(len(train))
	p := bytes.Clone(train[i])
	switch r.IntN(6) {
	case 0: // anywhere, sums wrong
		if len(p) > 0 {
			p[r.IntN(len(p))] ^= 1 << r.IntN(8)
		}
	case 1: // in the headers, sums right if they can be
		if len(p) > 60 {
			p[r.IntN(60)] ^= 1 << r.IntN(8)
			repair(p)
		}
	case 2:
		p = p[:r.IntN(len(p)+1)]
	case 3:
		p = append(p, byte(r.Uint32()))
	case 4:
		train[i], train[j] = train[j], train[i]
		return train
	case 5:
		return append(train[:i:i], train[i+1:]...)
	}
	train[i] = p
	return train
}

func repair(p []byte) {
	transport, protocol := 20, p[9]
	if p[0]>>4 == 6 {
		transport, protocol = 40, p[6]
	}
	if protocol == unix.IPPROTO_TCP || protocol == unix.IPPROTO_UDP {
		seal(p, transport, protocol == unix.IPPROTO_UDP, true)
	}
}

func TestOnlyWhatBelongsTogetherIsMerged(t *testing.T) {
	tcp := stream{size: 100, payload: bytes.Repeat([]byte("0123456789"), 40), flags: tcpACK, ttl: 64, id: 7, options: []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}}
	tcp6, udp, udp6 := tcp, tcp, tcp
	tcp6.v6, udp.udp, udp6.v6, udp6.udp = true, true, true, true

	type spoil func(p []byte)
	at := func(offset int, v byte) spoil { return func(p []byte) { p[offset] ^= v } }
	for _, c := range []struct {
		name  string
		s     stream
		spoil spoil // of the third of four packets, sums repaired
	}{
		{"another address", tcp, at(15, 1)},
		{"another port", tcp, at(20, 1)},
		{"another sequence number", tcp, at(27, 1)},
		{"another acknowledgement", tcp, at(31, 1)},
		{"another window", tcp, at(35, 1)},
		{"another option", tcp, at(51, 1)},
		{"another reserved bit", tcp, at(32, 1)},
		{"an urgent pointer", tcp, at(39, 1)},
		{"SYN", tcp, at(33, tcpSYN)},
		{"RST", tcp, at(33, tcpRST)},
		{"URG", tcp, at(33, tcpURG)},
		{"no ACK", tcp, at(33, tcpACK)},
		{"ECE", tcp, at(33, tcpECE)},
		{"another TOS", tcp, at(1, 4)},
		{"an ECN mark", tcp, at(1, 3)},
		{"another TTL", tcp, at(8, 1)},
		{"DF", tcp, at(6, 0x40)},
		{"MF", tcp, at(6, 0x20)},
		{"the reserved flag", tcp, at(6, 0x80)},
		{"a fragment offset", tcp, at(7, 1)},
		{"another ID", tcp, at(4, 1)},
		{"another ID in UDP", udp, at(4, 1)},
		{"another port in UDP", udp, at(23, 1)},
		{"another class", tcp6, at(0, 1)},
		{"another label", tcp6, at(3, 1)},
		{"another hop limit", tcp6, at(7, 1)},
		{"another address in IPv6", udp6, at(39, 1)},
		{"an odd UDP length", udp, at(25, 1)},
	} {
		train := c.s.packets()
		c.spoil(train[2])
		repair(train[2])
		headers, merged := mergeAll(train)
		if len(merged) != 3 || headers[1] != (virtioHeader{}) || headers[2] != (virtioHeader{}) || !bytes.Equal(merged[1], train[2]) {
			t.Errorf("%s: %d packets, %+v", c.name, len(merged), headers)
		}
	}
}

func TestWrongSumIsNeverLaundered(t *testing.T) {
	for _, c := range []struct {
		name string
		s    stream
		at   int
	}{
		{"IPv4 header sum", stream{}, 10},
		{"TCP sum", stream{}, 36},
		{"TCP payload", stream{}, 60},
		{"TCP payload, IPv6", stream{v6: true}, 80},
		{"UDP payload", stream{udp: true}, 60},
		{"UDP payload, IPv6", stream{v6: true, udp: true}, 80},
	} {
		c.s.size, c.s.payload, c.s.flags, c.s.ttl = 100, make([]byte, 400), tcpACK, 64
		for bad := range 4 {
			train := c.s.packets()
			train[bad][c.at] ^= 0x10
			headers, merged := mergeAll(train)
			for i, p := range merged {
				if bytes.Equal(p, train[bad]) && headers[i] == (virtioHeader{}) {
					goto unchanged
				}
			}
			t.Errorf("%s of packet %d: it is not passed on alone and unchanged", c.name, bad)
		unchanged:
		}
	}
}

func TestUDPWithoutSumIsNotMerged(t *testing.T) {
	train := stream{udp: true, size: 100, payload: make([]byte, 400), ttl: 64}.packets()
	for _, p := range train {
		p[26], p[27] = 0, 0
	}
	if _, merged := mergeAll(train); len(merged) != 4 {
		t.Errorf("%d packets of 4", len(merged))
	}
}

func TestPushAndFinEndAMergedPacket(t *testing.T) {
	for _, flag := range []byte{tcpPSH, tcpFIN, tcpPSH | tcpFIN} {
		train := stream{size: 100, payload: make([]byte, 600), flags: tcpACK, ttl: 64}.packets()
		train[2][33] |= flag
		repair(train[2])
		headers, merged := mergeAll(train)
		if len(merged) != 2 || len(merged[0]) != 340 || len(merged[1]) != 340 {
			t.Fatalf("%#x: %d packets", flag, len(merged))
		}
		if merged[0][33] != tcpACK|flag || merged[1][33] != tcpACK || headers[0].gsoType != unix.VIRTIO_NET_HDR_GSO_TCPV4 {
			t.Errorf("%#x: flags %#x and %#x", flag, merged[0][33], merged[1][33])
		}
	}
}

func TestCWRBeginsAMergedPacket(t *testing.T) {
	train := stream{size: 100, payload: make([]byte, 400), flags: tcpACK, ttl: 64}.packets()
	train[2][33] |= tcpCWR
	repair(train[2])
	headers, merged := mergeAll(train)
	const ecn = unix.VIRTIO_NET_HDR_GSO_ECN
	if len(merged) != 2 || headers[0].gsoType&ecn != 0 || headers[1].gsoType&ecn == 0 || merged[1][33] != tcpACK|tcpCWR {
		t.Errorf("%d packets, %+v", len(merged), headers)
	}
}

func TestShorterPacketEndsAndLongerBegins(t *testing.T) {
	s := stream{size: 100, payload: make([]byte, 250), flags: tcpACK, ttl: 64}
	train := s.packets()
	s.seq, s.id = 250, 3
	train = append(train, s.packets()...)
	_, merged := mergeAll(train)
	if len(merged) != 2 || len(merged[0]) != 290 || len(merged[1]) != 290 {
		t.Errorf("%d packets", len(merged))
	}
	// A longer one can't continue shorter ones.
	s = stream{size: 100, payload: make([]byte, 200), flags: tcpACK, ttl: 64}
	train = s.packets()
	s.size, s.seq, s.id = 200, 200, 2
	if _, merged := mergeAll(append(train, s.packets()...)); len(merged) != 2 {
		t.Errorf("%d packets", len(merged))
	}
}

func TestConstantIDIsMergedOnlyWhereNothingMayBeFragmented(t *testing.T) {
	for _, df := range []bool{true, false} {
		train := stream{size: 100, payload: make([]byte, 400), flags: tcpACK, ttl: 64, dontMangle: df}.packets()
		for _, p := range train {
			binary.BigEndian.PutUint16(p[4:], 0)
			repair(p)
		}
		want := 4
		if df {
			want = 1
		}
		if _, merged := mergeAll(train); len(merged) != want {
			t.Errorf("DF %v: %d packets, want %d", df, len(merged), want)
		}
		// First growing, then constant.
		train = stream{size: 100, payload: make([]byte, 400), flags: tcpACK, ttl: 64, dontMangle: df}.packets()
		binary.BigEndian.PutUint16(train[2][4:], 1)
		repair(train[2])
		if _, merged := mergeAll(train); len(merged) < 2 {
			t.Errorf("DF %v: IDs 0, 1, 1 are one packet", df)
		}
	}
}

func TestMergedPacketIsBounded(t *testing.T) {
	for _, s := range []stream{
		{size: 1, payload: make([]byte, 500)},
		{size: 9000, payload: make([]byte, 60000)},
		{size: 9000, payload: make([]byte, 60000), v6: true},
	} {
		s.flags, s.ttl = tcpACK, 64
		train := s.packets()
		next := s
		next.seq, next.id = uint32(len(s.payload)), uint16(len(train))
		if len(s.payload)%s.size == 0 {
			train = append(train, next.packets()...)
		}
		headers, merged := mergeAll(train)
		for i, p := range merged {
			if len(p) > maxMerged || int(headers[i].gsoSize)*maxSegments < len(p)-int(headers[i].headerLen) {
				t.Errorf("%d bytes in segments of %d", len(p), headers[i].gsoSize)
			}
		}
	}
}

func BenchmarkMerge64K(b *testing.B) {
	train := stream{size: 1368, payload: make([]byte, 46*1368), flags: tcpACK, ttl: 64, options: make([]byte, 12)}.packets()
	for name, partial := range map[string]bool{"complete": false, "partial": true} {
		b.Run(name, func(b *testing.B) { benchmarkMerge(b, packetQueue(), train, partial) })
	}
}
