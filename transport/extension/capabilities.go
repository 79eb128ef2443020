package extension

// Capabilities says what an end opens: a set of bits. A sender sends nothing that
// the receiver's hello has not announced.
type Capabilities uint32

// The capabilities. Hello and goodbye need none of them.
const (
	TrustedChecksums Capabilities = 1 << iota // IP packets and frames with a partial checksum
	Fragments                                 // fragments
	Echo                                      // echoes, which it answers
	Frames                                    // Ethernet frames
	Probes                                    // probes, which it answers

	known = TrustedChecksums | Fragments | Echo | Frames | Probes
)

// critical are the bits of which an unknown one says: who does not understand this
// must not speak extensions with me.
const critical Capabilities = 0xffff_0000

// Has reports whether all of what are in c.
func (c Capabilities) Has(what Capabilities) bool { return c&what == what }

// Refused returns the critical capabilities that are not known here. When there are
// any, the peer is treated as one that has said no hello.
func (c Capabilities) Refused() Capabilities { return c & critical &^ known }
