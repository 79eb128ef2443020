//go:build !purego

package chachapoly

const xcryptoAllocates = false
