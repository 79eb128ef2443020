//go:build !amd64 || purego

package chachapoly

// runs reports whether this build has p.
func (p path) runs() bool { return p == generic }

func (p path) lanesFrom() int { return 0 }

func (c *Cipher) seal(train []Packet)            { c.sealGeneric(train) }
func (c *Cipher) open(train []Packet, ok []bool) { c.openGeneric(train, ok) }
