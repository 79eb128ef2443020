//go:build !amd64 || purego

package chachapoly

// x/crypto without assembly has a cipher for each packet allocated.
const xcryptoAllocates = true
