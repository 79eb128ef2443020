package crypto

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
	"time"
)

// someTime is when the tests' initiations are made.
var someTime = TAI64NFrom(time.Unix(1_700_000_000, 123_456_789))

// A pair is two ends that know each other.
type pair struct {
	alice, bob *Identity
	aliceToBob *Remote // bob, seen by alice
	bobToAlice *Remote
	psk        PresharedKey
}

func newPair(t testing.TB) *pair {
	t.Helper()
	return pairOf(t, NewPrivateKey(), NewPrivateKey(), NewPresharedKey())
}

func pairOf(t testing.TB, alice, bob PrivateKey, psk PresharedKey) *pair {
	t.Helper()
	p := &pair{alice: identityOf(t, alice), bob: identityOf(t, bob), psk: psk}
	p.aliceToBob = remoteOf(t, p.alice, p.bob.PublicKey())
	p.bobToAlice = remoteOf(t, p.bob, p.alice.PublicKey())
	return p
}

func identityOf(t testing.TB, k PrivateKey) *Identity {
	t.Helper()
	id, err := NewIdentity(k)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func remoteOf(t testing.TB, id *Identity, k PublicKey) *Remote {
	t.Helper()
	r, err := NewRemote(id, k)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// lookup is bob's: he knows alice.
func (p *pair) lookup(k PublicKey) *Remote {
	if k == p.alice.PublicKey() {
		return p.bobToAlice
	}
	return nil
}

func (p *pair) initiate(t testing.TB, local Index) ([]byte, *Initiator) {
	t.Helper()
	msg, i, err := Initiate(p.alice, p.aliceToBob, p.psk, local, someTime)
	if err != nil {
		t.Fatal(err)
	}
	return msg, i
}

func (p *pair) respond(t testing.TB, initiation []byte, local Index) ([]byte, *Keypair) {
	t.Helper()
	r, err := Accept(p.bob, initiation, p.lookup)
	if err != nil {
		t.Fatal(err)
	}
	msg, k, err := r.Respond(p.psk, local)
	if err != nil {
		t.Fatal(err)
	}
	return msg, k
}

// pending returns alice's pending handshake and bob's true response to it.
func (p *pair) pending(t testing.TB) (*Initiator, []byte) {
	t.Helper()
	msg, i := p.initiate(t, 0xa11ce)
	response, _ := p.respond(t, msg, 0xb0b)
	return i, response
}

// keypairs are what a handshake of the two gives.
func (p *pair) keypairs(t testing.TB) (alice, bob *Keypair) {
	t.Helper()
	msg, i := p.initiate(t, 0xa11ce)
	response, bob := p.respond(t, msg, 0xb0b)
	alice, err := i.Finish(response, p.psk)
	if err != nil {
		t.Fatal(err)
	}
	return alice, bob
}

// expectWorking fails unless each keypair opens what the other seals.
func expectWorking(t testing.TB, a, b *Keypair) {
	t.Helper()
	for _, way := range []struct{ from, to *Keypair }{{a, b}, {b, a}} {
		want := []byte("sixteen bytes ok")
		msg := sealOne(t, way.from, want)
		if Receiver(msg) != way.to.LocalIndex() {
			t.Fatalf("message to index %#x, want %#x", Receiver(msg), way.to.LocalIndex())
		}
		if got := openOne(way.to, msg); !bytes.Equal(got, want) {
			t.Fatalf("opened %q, want %q", got, want)
		}
	}
}

func sealOne(t testing.TB, k *Keypair, plain []byte) []byte {
	t.Helper()
	n, ok := k.Reserve(1)
	if !ok {
		t.Fatal("no counter left")
	}
	return k.Seal(make([]byte, 0, len(plain)+TransportOverhead), n, []Plaintext{{First: plain}})
}

func openOne(k *Keypair, msg []byte) []byte {
	plain := make([][]byte, 1)
	k.Open([][]byte{msg}, plain)
	return plain[0]
}

// countX25519 returns how many scalar multiplications f does.
func countX25519(t testing.TB, f func()) int {
	t.Helper()
	n := 0
	whole := x25519
	x25519 = func(scalar, point []byte) ([]byte, error) {
		n++
		return whole(scalar, point)
	}
	defer func() { x25519 = whole }()
	f()
	return n
}

// hexBytes is bytes as hex in JSON.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

func readJSON(t testing.TB, name string, v any) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
