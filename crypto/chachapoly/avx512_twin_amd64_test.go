//go:build !purego

package chachapoly

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"testing"
	"unsafe"
)

// The twins of the units of avx512_amd64.s, in Go: for one row or one lane, limb by limb
// as the assembly does it. They hold every step to the bounds that gen/avx512 states.

// quarter is RFC 8439, 2.1.
func quarter(x *[16]uint32, a, b, c, d int) {
	for _, n := range [2][2]int{{16, 12}, {8, 7}} {
		x[a] += x[b]
		x[d] = bits.RotateLeft32(x[d]^x[a], n[0])
		x[c] += x[d]
		x[b] = bits.RotateLeft32(x[b]^x[c], n[1])
	}
}

// twinRow is RFC 8439, 2.3: one block.
func twinRow(state *[stateSize]byte, counter uint64, block uint32) (row [blockSize]byte) {
	start := [16]uint32{0x61707865, 0x3320646e, 0x79622d32, 0x6b206574}
	for i := range 8 {
		start[4+i] = binary.LittleEndian.Uint32(state[4*i:])
	}
	start[12], start[13] = block, binary.LittleEndian.Uint32(state[KeySize:])
	start[14], start[15] = uint32(counter), uint32(counter>>32)
	x := start
	for range 10 {
		for i := range 4 {
			quarter(&x, i, 4+i, 8+i, 12+i)
		}
		for i := range 4 {
			quarter(&x, i, 4+(i+1)%4, 8+(i+2)%4, 12+(i+3)%4)
		}
	}
	for i := range x {
		binary.LittleEndian.PutUint32(row[4*i:], x[i]+start[i])
	}
	return row
}

func TestKeys512IsLikeItsTwin(t *testing.T) {
	needs(t, avx512)
	r := random(1)
	for range 100 {
		state, counters, keys := randomState(r), [rows512]uint64{}, [rows512][keySize]byte{}
		for i := range counters {
			counters[i] = r.Uint64()
		}
		keys512(&keys, &state, &counters)
		for i := range keys {
			if row := twinRow(&state, counters[i], 0); !bytes.Equal(keys[i][:], row[:keySize]) {
				t.Fatalf("row %d: %x, want %x", i, keys[i], row[:keySize])
			}
		}
	}
}

func randomState(r *rand.Rand) (state [stateSize]byte) {
	for i := range state {
		state[i] = byte(r.Uint32())
	}
	return state
}

// twinXOR is one packet's way through xor512.
func twinXOR(state *[stateSize]byte, counter uint64, first, rest, sealed []byte, open bool) {
	for i := range sealed {
		row := twinRow(state, counter, uint32(1+i/blockSize))
		var text *byte
		if i < len(first) {
			text = &first[i]
		} else if i < len(first)+len(rest) {
			text = &rest[i-len(first)]
		}
		switch {
		case !open && text == nil:
			sealed[i] = row[i%blockSize]
		case !open:
			sealed[i] = *text ^ row[i%blockSize]
		case text != nil:
			*text = sealed[i] ^ row[i%blockSize]
		}
	}
}

func TestXor512IsLikeItsTwin(t *testing.T) {
	needs(t, avx512)
	r := random(2)
	for range 200 {
		state, counters := randomState(r), [groupSize]uint64{}
		open, shift := r.IntN(2), 1+r.IntN(5)
		var pointers [3][groupSize]*byte
		var bounds [3][groupSize]int
		m := newMemory(r, 1<<15)
		longest := 0
		type packet struct{ first, rest, sealed []byte }
		var packets []packet
		for i := range rows512 >> shift {
			counters[i] = m.counter()
			p := packet{m.take(blockSize * r.IntN(4)), m.take(r.IntN(400)), nil}
			p.sealed = m.take(len(p.first) + len(p.rest) + r.IntN(70))
			if r.IntN(8) == 0 { // nothing to be done
				p = packet{nil, nil, m.take(1)[:0]}
			}
			for j, b := range [][]byte{p.first, p.rest, p.sealed} {
				pointers[j][i] = unsafe.SliceData(b)
			}
			bounds[0][i], bounds[1][i], bounds[2][i] = len(p.first), len(p.first)+len(p.rest), len(p.sealed)
			longest = max(longest, len(p.sealed))
			packets = append(packets, p)
		}
		for i := len(packets); i < groupSize; i++ {
			pointers[2][i] = pointers[2][0]
		}
		want := bytes.Clone(m.bytes)
		for i, p := range packets {
			twinXOR(&state, counters[i], m.in(want, p.first), m.in(want, p.rest), m.in(want, p.sealed), open == 1)
		}
		turns := (longest+blockSize<<shift-1)/(blockSize<<shift) + r.IntN(2) // a turn too many does nothing
		if turns > 0 {
			xor512(&state, &counters, &shareRows[shift], &pointers, &bounds, turns, open)
		}
		if !bytes.Equal(m.bytes, want) {
			t.Fatalf("shift %d, open %d, bounds %v: the memory differs", shift, open, bounds)
		}
	}
}

// number is one lane of limbs512, factor one of multiplier512.
type (
	number [3]uint64
	factor [5]uint64
)

func lane(x *limbs512, i int) (n number) {
	for l := range n {
		n[l] = x[l][i]
	}
	return n
}

func factorOf(x *multiplier512, i int) (f factor) {
	for l := range f {
		f[l] = x[l][i]
	}
	return f
}

// below wants a limb to be below 2^n + more.
func below(t *testing.T, what string, limb uint64, n int, more uint64) {
	t.Helper()
	if limb >= 1<<n+more {
		t.Fatalf("%s: %#x is not below 2^%d + %d", what, limb, n, more)
	}
}

func twinSplit(low, high uint64) number {
	return number{low & (1<<44 - 1), (low>>44 | high<<20) & (1<<44 - 1), high >> 24}
}

func twinScale(x number) factor { return factor{x[0], x[1], x[2], 20 * x[1], 20 * x[2]} }

func twinClamp(key *[keySize]byte) factor {
	low, high := binary.LittleEndian.Uint64(key[:]), binary.LittleEndian.Uint64(key[8:])
	return twinScale(twinSplit(low&0x0ffffffc0fffffff, high&0x0ffffffc0ffffffc))
}

// twinMultiply is product and carry of gen/avx512.
func twinMultiply(t *testing.T, h number, r factor) number {
	below(t, "h0", h[0], 45, 0)
	below(t, "h1", h[1], 45, 1<<7)
	below(t, "h2", h[2], 43, 0)
	below(t, "r0", r[0], 44, 0)
	below(t, "r1", r[1], 44, 1<<7)
	below(t, "r2", r[2], 42, 0)
	var low, high number
	for l, row := range [3][3]uint64{{r[0], r[4], r[3]}, {r[1], r[0], r[4]}, {r[2], r[1], r[0]}} {
		for i, x := range row {
			below(t, "factor", x, 52, 0)
			hi, lo := bits.Mul64(h[i], x)
			low[l] += lo & (1<<52 - 1)
			high[l] += hi<<12 | lo>>52
		}
	}
	below(t, "high half of limb 0", high[0], 41, 0)
	below(t, "high half of limb 1", high[1], 39, 0)
	below(t, "high half of limb 2", high[2], 38, 0)
	low[1] += high[0]<<8 + low[0]>>44
	below(t, "limb 1", low[1], 54, 0)
	low[2] += high[1]<<8 + low[1]>>44
	below(t, "limb 2", low[2], 54, 0)
	up := low[2]>>42 + high[2]<<10
	below(t, "what comes back", up, 49, 0)
	x := number{low[0]&(1<<44-1) + 5*up, low[1] & (1<<44 - 1), low[2] & (1<<42 - 1)}
	below(t, "limb 0 again", x[0], 51, 0)
	x[1] += x[0] >> 44
	x[0] &= 1<<44 - 1
	below(t, "limb 1 again", x[1], 44, 1<<7)
	return x
}

func twinAbsorb(t *testing.T, h number, r factor, block []byte) number {
	m := twinSplit(binary.LittleEndian.Uint64(block), binary.LittleEndian.Uint64(block[8:]))
	return twinMultiply(t, number{h[0] + m[0], h[1] + m[1], h[2] + m[2] + 1<<40}, r)
}

// randomLimbs are as carry leaves them, often as large as can be.
func randomLimbs(r *rand.Rand) (x limbs512) {
	for i := range lanes512 {
		for l, limit := range [3]uint64{1 << 44, 1<<44 + 1<<7, 1 << 42} {
			x[l][i] = r.Uint64N(limit)
			if r.IntN(4) == 0 {
				x[l][i] = limit - 1 - r.Uint64N(2)
			}
		}
	}
	return x
}

func randomKeys(r *rand.Rand) (keys [groupSize][keySize]byte) {
	for i := range keys {
		for j := range keys[i] {
			if keys[i][j] = byte(r.Uint32()); i%4 == 0 {
				keys[i][j] = 0xff
			}
		}
	}
	return keys
}

func TestClampScaleAndMultiply512AreLikeTheirTwins(t *testing.T) {
	needs(t, avx512)
	r := random(3)
	for range 500 {
		keys, x := randomKeys(r), randomLimbs(r)
		var clamped, scaled multiplier512
		clamp512(&clamped, &keys)
		scale512(&scaled, &x)
		other, active := randomLimbs(r), int(r.Uint32()&allLanes)
		product := other
		multiply512(&product, &scaled, active)
		for i := range lanes512 {
			if got, want := factorOf(&clamped, i), twinClamp(&keys[i]); got != want {
				t.Fatalf("clamp512, lane %d: %#x, want %#x", i, got, want)
			}
			if got, want := factorOf(&scaled, i), twinScale(lane(&x, i)); got != want {
				t.Fatalf("scale512, lane %d: %#x, want %#x", i, got, want)
			}
			want := lane(&other, i)
			if active>>i&1 == 1 {
				want = twinMultiply(t, want, factorOf(&scaled, i))
			}
			if got := lane(&product, i); got != want {
				t.Fatalf("multiply512, lane %d: %#x, want %#x", i, got, want)
			}
		}
	}
}

// Messages of all lengths, blocks of all ones among them, that begin at different steps;
// but the first, the longest, does so in each of its lanes at the first step.
func TestAbsorb512IsLikeItsTwin(t *testing.T) {
	needs(t, avx512)
	r := random(4)
	for range 500 {
		shift := uint(r.IntN(5))
		each, messages := 1<<shift, lanes512>>shift
		var s sums512
		x := randomLimbs(r)
		scale512(&s.step, &x)
		s.acc = randomLimbs(r)
		was := s.acc
		steps := 2 + r.IntN(12)
		m := newMemory(r, 1<<13)
		var texts [][]byte
		var last []int
		for i := range messages {
			n := 1 + r.IntN(each*steps) // blocks, with the last one
			if i == 0 {
				n = each*(steps-1) + 1 + r.IntN(each)
			}
			whole := max(0, n-1-r.IntN(2))
			text := m.take(whole * sumSize)
			if r.IntN(2) == 0 {
				for j := range text {
					text[j] = 0xff
				}
			}
			m.fill(s.tails[i][0][:])
			m.fill(s.tails[i][1][:])
			s.sealed[i] = unsafe.SliceData(text)
			s.blocks[0][i], s.blocks[1][i], s.blocks[2][i] = each*steps-n, whole, n-1
			texts, last = append(texts, text), append(last, n-1)
		}
		for i := messages; i < groupSize; i++ {
			s.blocks[0][i] = never
		}
		from := r.IntN(steps)
		if from > 0 {
			absorb512(&s.acc, &s.step, &shareLanes[shift], &s.sealed, &s.blocks, &s.tails, 0, from)
		}
		absorb512(&s.acc, &s.step, &shareLanes[shift], &s.sealed, &s.blocks, &s.tails, from, steps-from)
		for i := range lanes512 {
			want, p := lane(&was, i), i>>shift
			for b := i&(each-1) - s.blocks[0][p]; b <= last[p]; b += each {
				var block []byte
				switch {
				case b < 0:
					continue
				case b*sumSize < len(texts[p]):
					block = texts[p][b*sumSize:][:sumSize]
				default:
					block = s.tails[p][1-last[p]+b][:]
				}
				want = twinAbsorb(t, want, factorOf(&s.step, i), block)
			}
			if got := lane(&s.acc, i); got != want {
				t.Fatalf("shift %d, lane %d: %#x, want %#x", shift, i, got, want)
			}
		}
	}
}

func twinFinish(acc number, key *[keySize]byte) (tag [TagSize]byte) {
	carry := func(x *number) {
		x[1] += x[0] >> 44
		x[0] &= 1<<44 - 1
		x[2] += x[1] >> 44
		x[1] &= 1<<44 - 1
	}
	carry(&acc)
	acc[0] += 5 * (acc[2] >> 42)
	acc[2] &= 1<<42 - 1
	carry(&acc)
	less := number{acc[0] + 5, acc[1], acc[2] - 1<<42}
	carry(&less)
	if less[2]>>63 == 0 {
		acc = less
	}
	low, c := bits.Add64(acc[0]|acc[1]<<44, binary.LittleEndian.Uint64(key[16:]), 0)
	high, _ := bits.Add64(acc[1]>>20|acc[2]<<24, binary.LittleEndian.Uint64(key[24:]), c)
	binary.LittleEndian.PutUint64(tag[:], low)
	binary.LittleEndian.PutUint64(tag[8:], high)
	return tag
}

func TestFinish512IsLikeItsTwin(t *testing.T) {
	needs(t, avx512)
	r := random(5)
	edges := []number{
		{},
		{1<<44 - 5, 1<<44 - 1, 1<<42 - 1}, // p
		{1<<44 - 6, 1<<44 - 1, 1<<42 - 1}, // p - 1
		{1<<44 - 4, 1<<44 - 1, 1<<42 - 1}, // p + 1
		{1<<44 - 1, 1<<44 - 1, 1<<42 - 1}, // 2^130 - 1
		{0, 0, 1 << 42},                   // 2^130
		{1<<50 - 1, 1<<50 - 1, 1<<50 - 1},
	}
	for n := range 500 {
		var x limbs512
		for i := range lanes512 {
			edge := edges[(n+i)%len(edges)]
			for l := range edge {
				if x[l][i] = edge[l]; n >= len(edges) {
					x[l][i] = r.Uint64N(1 << (40 + r.IntN(11)))
				}
			}
		}
		keys, tags := randomKeys(r), [groupSize][TagSize]byte{}
		finish512(&tags, &x, &keys)
		for i := range tags {
			if want := twinFinish(lane(&x, i), &keys[i]); tags[i] != want {
				t.Fatalf("lane %d, %#x: %x, want %x", i, lane(&x, i), tags[i], want)
			}
		}
	}
}
