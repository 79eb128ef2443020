// Program avx2 writes ../../avx2_amd64.s: ChaCha20 and Poly1305 (RFC 8439) in lanes of
// AVX2. `go generate ./crypto/chachapoly` runs it; a test of package chachapoly wants
// that what is checked in is what it writes.
package main

import . "github.com/mmcloughlin/avo/build"

func main() {
	ConstraintExpr("!purego")
	stream()
	sums()
	Generate()
}
