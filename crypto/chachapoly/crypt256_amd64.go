//go:build !purego

package chachapoly

// crypt enciphers from First and Rest to Sealed, or deciphers back. It goes over the
// packets once for each kind of block: rows that begin together with equal lengths end
// together.
func (w *work256) crypt(packets []*Packet, back bool) {
	for i, p := range packets {
		if len(p.First) >= blockSize && !w.forged[i] {
			w.run(p, 0, len(p.First)/blockSize, p.First, back)
		}
	}
	for i, p := range packets {
		n, tail := p.size()%blockSize, &w.tails[i]
		if n > 0 && !w.forged[i] {
			if back {
				copy(tail[:n], p.Sealed[p.size()-n:])
			} else {
				p.gather(tail[:n], p.size()-n)
			}
			w.stream.add(p.Counter, 1+p.size()/blockSize, &tail[0], &tail[0], 1)
		}
	}
	for i, p := range packets {
		if w.forged[i] {
			continue
		}
		if p.hasMixed() {
			w.runMixed(p, back)
		}
		if s := p.rest(); s.from < s.to {
			w.run(p, s.from, (s.to-s.from)/blockSize, p.Rest[s.from-len(p.First):], back)
		}
	}
	w.stream.flush()
	for i, p := range packets {
		n := p.size() % blockSize
		switch {
		case w.forged[i]:
		case back:
			p.scatter(w.tails[i][:n], p.size()-n)
			if p.hasMixed() {
				for _, s := range p.mixed() {
					p.scatter(p.Sealed[s.from:s.to], s.from)
				}
			}
		default:
			copy(p.Sealed[p.size()-n:p.size()], w.tails[i][:n])
		}
	}
}

// run does n blocks, the first of which is at a place in Sealed, and in plain.
func (w *work256) run(p *Packet, at, n int, plain []byte, back bool) {
	to, from := &p.Sealed[at], &plain[0]
	if back {
		to, from = from, to
	}
	w.stream.add(p.Counter, 1+at/blockSize, to, from, n)
}

// runMixed does the mixed blocks, in Sealed.
func (w *work256) runMixed(p *Packet, back bool) {
	for _, s := range p.mixed() {
		if s.from < s.to {
			blocks := p.Sealed[s.from:s.to]
			if !back {
				p.gather(blocks, s.from)
			}
			w.run(p, s.from, len(blocks)/blockSize, blocks, back)
		}
	}
}

// A span is a range of a packet's text, of whole blocks. In front of all is what First
// has of these.
type span struct{ from, to int }

// rest is what can be done straight from Rest, or to it.
func (p *Packet) rest() span {
	return span{wholeBlocks(len(p.First) + blockSize - 1), wholeBlocks(len(p.First) + len(p.Rest))}
}

// hasMixed reports whether mixed may be any blocks. In most packets it is none.
func (p *Packet) hasMixed() bool { return len(p.First)%blockSize > 0 || p.Pad > 0 }

// mixed is the other whole blocks, before and behind rest: each has bytes of more than
// one of First, Rest and Pad, or is all Pad. They are done in Sealed.
func (p *Packet) mixed() [2]span {
	rest, from, to := p.rest(), wholeBlocks(len(p.First)), wholeBlocks(p.size())
	if rest.from > rest.to { // Rest ends in the block in which First does
		return [2]span{{from, to}}
	}
	return [2]span{{from, rest.from}, {rest.to, to}}
}

func wholeBlocks(n int) int { return n &^ (blockSize - 1) }

// gather fills b with the plaintext from a place on.
func (p *Packet) gather(b []byte, at int) {
	if in := at - len(p.First); in >= 0 && in+len(b) <= len(p.Rest) { // mostly
		copy(b, p.Rest[in:])
		return
	}
	for _, part := range [2][]byte{p.First, p.Rest} {
		if at < len(part) && len(b) > 0 {
			n := min(len(b), len(part)-at)
			move(b[:n], part[at:])
			b, at = b[n:], at+n
		}
		at -= len(part)
	}
	clear(b)
}

// scatter brings b to the plaintext from a place on.
func (p *Packet) scatter(b []byte, at int) {
	if in := at - len(p.First); in >= 0 && in+len(b) <= len(p.Rest) { // mostly
		copy(p.Rest[in:], b)
		return
	}
	for _, part := range [2][]byte{p.First, p.Rest} {
		if at < len(part) && len(b) > 0 {
			n := min(len(b), len(part)-at)
			move(part[at:], b[:n])
			b, at = b[n:], at+n
		}
		at -= len(part)
	}
}
