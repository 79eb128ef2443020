// Package crypto makes and reads WireGuard's messages: keys, the Noise handshake,
// transport keypairs, MACs and cookies. Bytes go in and bytes come out: there is
// no I/O, no clock, no goroutine and no log in here.
//
// Specification: the WireGuard whitepaper, section 5.4, which is the Noise
// protocol Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s (Noise, revision 34) with the
// prologue "WireGuard v1 zx2c4 Jason@zx2c4.com" and a TAI64N timestamp as the
// first message's payload.
//
// Most readers need two calls. The initiator of a handshake begins with
//
//	msg, pending, err := Initiate(identity, remote, psk, index, timestamp)
//
// and [Initiator.Finish] turns the Response into a [Keypair]; the other end begins
// with
//
//	responder, err := Accept(identity, msg, lookup)
//
// and [Responder.Respond] gives the Response and the same Keypair. [Keypair.Seal]
// and [Keypair.Open] work on whole trains of packets, by package chachapoly, which
// does many at once.
//
// Before a handshake message leaves, [CookieJar.Stamp] writes its two MACs; before
// one that came is looked at, [CookieChecker.CheckMAC1] tells whether its sender
// at least knows who we are.
//
// Every message that does not open gives the same [ErrOpen] (or, in a train, a nil
// plaintext), whatever was wrong with it.
package crypto
