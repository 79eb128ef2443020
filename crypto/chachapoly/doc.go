// Package chachapoly is ChaCha20-Poly1305 (RFC 8439) over many packets at once,
// under one key: the AEAD of WireGuard's transport messages, which has no
// associated data and a counter for a nonce.
//
// Most readers need [Cipher.Seal] and [Cipher.Open].
//
// Packets of a train are independent of each other, which is what SIMD lanes are
// for: on processors that have AVX-512 with IFMA, or AVX2, lanes work on many
// packets, or on many blocks of few. Everywhere else, under the build tag purego,
// and where it was measured to be quicker, golang.org/x/crypto/chacha20poly1305
// does the work. All paths give the same bytes.
//
// The path is chosen once, when the program starts: the best that the processor
// has and that passes a test against x/crypto ([Path] and [Fault] tell). The
// environment variable STUNNEL_AEAD=generic (or avx2, avx512) forces one, for
// tests and measurements, and for whoever trusts x/crypto more.
package chachapoly
