// Program avx512 writes ../../avx512_amd64.s: ChaCha20 and Poly1305 (RFC 8439)
// in lanes of AVX-512. `go generate ./crypto/chachapoly` runs it; a test of package
// chachapoly wants that what is checked in is what it writes.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
)

func main() {
	ConstraintExpr("!purego")
	stream()
	sums()
	Generate()
}

var labels int

// unique makes a label of which there may be many.
func unique(name string) string {
	labels++
	return fmt.Sprint(name, labels)
}
