package crypto_test

import (
	"fmt"
	"time"

	"stunnel/crypto"
)

// Two ends agree on keys and one sends a packet to the other. Errors and MACs are
// left out.
func Example() {
	alice, _ := crypto.NewIdentity(crypto.NewPrivateKey())
	bob, _ := crypto.NewIdentity(crypto.NewPrivateKey())
	bobAtAlice, _ := crypto.NewRemote(alice, bob.PublicKey())
	aliceAtBob, _ := crypto.NewRemote(bob, alice.PublicKey())
	psk := crypto.NewPresharedKey()

	initiation, pending, _ := crypto.Initiate(alice, bobAtAlice, psk, 1, crypto.TAI64NFrom(time.Now()))
	responder, _ := crypto.Accept(bob, initiation, func(k crypto.PublicKey) *crypto.Remote {
		if k == alice.PublicKey() {
			return aliceAtBob
		}
		return nil
	})
	response, bobKeys, _ := responder.Respond(psk, 2)
	aliceKeys, _ := pending.Finish(response, psk)

	packet := []byte("hello, bob")
	train := []crypto.Plaintext{{First: packet, Pad: 6}}
	first, _ := aliceKeys.Reserve(len(train))
	wire := aliceKeys.Seal(make([]byte, 0, 1500), first, train)

	plain := make([][]byte, 1)
	bobKeys.Open([][]byte{wire}, plain)
	fmt.Printf("%d bytes on the wire, to index %d\n", len(wire), crypto.Receiver(wire))
	fmt.Printf("%q\n", plain[0])
	// Output:
	// 48 bytes on the wire, to index 2
	// "hello, bob\x00\x00\x00\x00\x00\x00"
}
