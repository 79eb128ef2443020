// Package extension has the bytes of what two stunnels say to each other inside
// WireGuard's transport messages and a plain WireGuard drops: hello, echo,
// goodbye, probes, fragments, Ethernet frames and packets with partial checksums.
//
// Specification: docs/protocol-extensions.md. Vectors: testdata/extensions.json.
//
// Most readers need two calls. [IsPacket] of a plaintext's first byte tells an IP
// packet, and [IsPartial] one whose checksum is partial; everything else goes to
//
//	kind, flags, body, ok := Split(plaintext)
//
// and then, by its kind and [TypeOf] its body, to one of the Parse functions. What
// is sent is made by the Append functions, which append header and body, without
// WireGuard's padding.
//
// The package is pure: bytes in, bytes out. When something is said, and to whom, is
// the transport's business. Plaintexts are parsed only after they have been opened
// and the replay decision has been made; even so nothing in them is trusted. All
// integers are big endian. Reserved bytes and bits are sent as zero and ignored.
package extension
