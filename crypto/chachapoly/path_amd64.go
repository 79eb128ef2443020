//go:build !purego

package chachapoly

import "golang.org/x/sys/cpu"

// runs reports whether the processor and the operating system have what p needs.
func (p path) runs() bool {
	switch p {
	case generic:
		return true
	case avx2:
		return cpu.X86.HasAVX2
	case avx512:
		x := &cpu.X86
		return x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && x.HasAVX512IFMA && x.HasAVX512VBMI2 &&
			x.HasBMI2 && x.HasPOPCNT
	}
	return false
}

// lanesFrom is where lanes begin to pay.
func (p path) lanesFrom() int {
	if p == avx512 {
		return lanesFrom512
	}
	return 0
}

// seal and open are calls that the compiler sees through, unlike those of a table of
// functions: so a train may live on its caller's stack.
func (c *Cipher) seal(train []Packet) {
	switch c.path {
	case avx2:
		c.sealAVX2(train)
	case avx512:
		c.sealAVX512(train)
	default:
		c.sealGeneric(train)
	}
}

func (c *Cipher) open(train []Packet, ok []bool) {
	switch c.path {
	case avx2:
		c.openAVX2(train, ok)
	case avx512:
		c.openAVX512(train, ok)
	default:
		c.openGeneric(train, ok)
	}
}
