//go:build !purego

package chachapoly

// runs reports whether the processor and the operating system have what p needs.
func (p path) runs() bool {
	switch p {
	case generic:
		return true
	}
	return false
}

// seal and open are calls that the compiler sees through, unlike those of a table of
// functions: so a train may live on its caller's stack.
func (c *Cipher) seal(train []Packet) {
	switch c.path {
	default:
		c.sealGeneric(train)
	}
}

func (c *Cipher) open(train []Packet, ok []bool) {
	switch c.path {
	default:
		c.openGeneric(train, ok)
	}
}
