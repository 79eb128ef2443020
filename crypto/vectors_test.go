package crypto

import (
	"bytes"
	"fmt"
	"testing"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"
)

func TestPublishedNoiseVectorsComeOutOfOurConstruction(t *testing.T) {
	var file struct {
		Vectors []struct {
			Source                                                                  string
			Prologue, PSK, Init_static, Init_ephemeral, Resp_static, Resp_ephemeral hexBytes
			Messages                                                                []struct{ Payload, Ciphertext hexBytes }
		}
	}
	readJSON(t, "testdata/noise_ikpsk2.json", &file)
	if len(file.Vectors) != 5 {
		t.Fatalf("%d vectors, want four of flynn and one of cacophony", len(file.Vectors))
	}
	for n, v := range file.Vectors {
		t.Run(fmt.Sprint(n, " ", v.Source), func(t *testing.T) {
			p := pairOf(t, PrivateKey(v.Init_static), PrivateKey(v.Resp_static), PresharedKey(v.PSK))

			var ax, bx agreement
			a, err := newHandshake(&ax, p.alice, p.aliceToBob, p.psk, string(v.Prologue), bytes.NewReader(v.Init_ephemeral))
			if err != nil {
				t.Fatal(err)
			}
			b, err := newHandshake(&bx, p.bob, nil, PresharedKey{}, string(v.Prologue), bytes.NewReader(v.Resp_ephemeral))
			if err != nil {
				t.Fatal(err)
			}

			ax.expect(computed, given(p.aliceToBob.staticStatic[:]))
			msg, _, _, err := a.WriteMessage(nil, v.Messages[0].Payload)
			if err != nil || !bytes.Equal(msg, v.Messages[0].Ciphertext) {
				t.Fatalf("message 0: %v\n got %x\nwant %x", err, msg, v.Messages[0].Ciphertext)
			}
			bx.expect(computed, given(p.bobToAlice.staticStatic[:]))
			payload, _, _, err := b.ReadMessage(nil, msg)
			if err != nil || !bytes.Equal(payload, v.Messages[0].Payload) {
				t.Fatalf("message 0 read as %x: %v", payload, err)
			}

			if err := b.SetPresharedKey(p.psk[:]); err != nil {
				t.Fatal(err)
			}
			bx.expect(computed, computed)
			msg, bReceive, bSend, err := b.WriteMessage(nil, v.Messages[1].Payload)
			if err != nil || !bytes.Equal(msg, v.Messages[1].Ciphertext) {
				t.Fatalf("message 1: %v\n got %x\nwant %x", err, msg, v.Messages[1].Ciphertext)
			}
			ax.expect(computed, computed)
			payload, aSend, aReceive, err := a.ReadMessage(nil, msg)
			if err != nil || !bytes.Equal(payload, v.Messages[1].Payload) {
				t.Fatalf("message 1 read as %x: %v", payload, err)
			}

			// What follows is transport, by turns: our Keypair must seal the same bytes.
			ends := [2]*Keypair{
				newKeypair(1, 2, true, aSend.UnsafeKey(), aReceive.UnsafeKey()),
				newKeypair(2, 1, false, bSend.UnsafeKey(), bReceive.UnsafeKey()),
			}
			for i, m := range v.Messages[2:] {
				from, to := ends[i%2], ends[1-i%2]
				sealed := sealOne(t, from, m.Payload)
				if !bytes.Equal(sealed[TransportHeaderSize:], m.Ciphertext) {
					t.Errorf("message %d sealed as %x, want %x", i+2, sealed[TransportHeaderSize:], m.Ciphertext)
				}
				if got := openOne(to, sealed); !bytes.Equal(got, m.Payload) {
					t.Errorf("message %d opened as %x, want %x", i+2, got, m.Payload)
				}
			}
		})
	}
}

func TestTheHandshakeStartsFromTheWhitepapersValues(t *testing.T) {
	ck0 := unhex(t, "60e26daef327efc02ec335e2a025d2d016eb4206f87277f52d38d1988b78cd36")
	h0 := unhex(t, "2211b361081ac566691243db458ad5322d9c6c662293e8b70ee19c65ba079ef3")

	p := newPair(t)
	whole, err := newHandshake(&agreement{}, p.alice, p.aliceToBob, p.psk, prologue, nil)
	if err != nil {
		t.Fatal(err)
	}
	name := blake2s.Sum256([]byte("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"))
	if !bytes.Equal(name[:], ck0) {
		t.Errorf("ck0 is %x, want %x", name, ck0)
	}
	start := blake2s.Sum256(append(bytes.Clone(ck0), prologue...))
	if !bytes.Equal(start[:], h0) {
		t.Errorf("h0 is %x, want %x", start, h0)
	}
	public := p.bob.PublicKey()
	want := blake2s.Sum256(append(bytes.Clone(h0), public[:]...))
	if !bytes.Equal(whole.ChannelBinding(), want[:]) {
		t.Errorf("the handshake's hash starts as %x, want HASH(h0 || responder) = %x", whole.ChannelBinding(), want)
	}
}

func TestMACAndCookieKeysOfTheReferencePublicKey(t *testing.T) {
	k, err := ParsePublicKey("qRCwZSKInrMAq5sepfCdaCsRJaoLe5jhtzfiw7CjbwM=")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		got        [KeySize]byte
	}{
		{"MAC1", "7ccc05694f3c4fb7c383cae322fd5fae68cb243e5e4c1eaf23b289aee3b493a7", mac1Key(k)},
		{"cookie", "ead3dff761f40ed9a337f5ecef915e517ded6a5e194b8698d507ca1d74d75f53", cookieKey(k)},
	} {
		if !bytes.Equal(c.got[:], unhex(t, c.want)) {
			t.Errorf("%s key is %x, want %s", c.name, c.got, c.want)
		}
	}
}

func TestWycheproofChaCha20Poly1305(t *testing.T) {
	var file struct {
		Tests []struct {
			TcID                       int
			Key, IV, AAD, Msg, CT, Tag hexBytes
			Result                     string
		}
	}
	readJSON(t, "testdata/wycheproof_chacha20_poly1305.json", &file)
	results := map[string]int{}
	for _, v := range file.Tests {
		results[v.Result]++
		a, err := chacha20poly1305.New(v.Key)
		if err != nil {
			t.Fatal(err)
		}
		sealed := append(bytes.Clone(v.CT), v.Tag...)
		if v.Result == "valid" {
			if got := a.Seal(nil, v.IV, v.Msg, v.AAD); !bytes.Equal(got, sealed) {
				t.Errorf("case %d sealed as %x, want %x", v.TcID, got, sealed)
			}
		}
		got, err := a.Open(nil, v.IV, sealed, v.AAD)
		if opened := err == nil; opened != (v.Result == "valid") {
			t.Errorf("case %d is %s but opened is %v", v.TcID, v.Result, opened)
		} else if opened && !bytes.Equal(got, v.Msg) {
			t.Errorf("case %d opened as %x, want %x", v.TcID, got, v.Msg)
		}
	}
	if results["valid"] < 200 || results["invalid"] < 50 {
		t.Errorf("vectors are missing: %v", results)
	}
}

// The same attacks on tags, in the form that a keypair can be given them: without
// associated data, under a nonce that is a counter.
func TestWycheproofTagsThroughAKeypair(t *testing.T) {
	var file struct {
		Tests []struct {
			TcID                   int
			Key, AAD, Msg, CT, Tag hexBytes
			Result                 string
		}
	}
	readJSON(t, "testdata/wycheproof_chacha20_poly1305.json", &file)
	for _, v := range file.Tests {
		k := newKeypair(1, 1, true, [KeySize]byte(v.Key), [KeySize]byte(v.Key))
		msg := sealOne(t, k, v.Msg)
		for bit := range 8 * tagSize {
			forged := bytes.Clone(msg)
			forged[len(forged)-tagSize+bit/8] ^= 1 << (bit % 8)
			if openOne(k, forged) != nil {
				t.Fatalf("case %d opened with bit %d of the tag flipped", v.TcID, bit)
			}
		}
		if got := openOne(k, msg); !bytes.Equal(got, v.Msg) {
			t.Fatalf("case %d opened as %x, want %x", v.TcID, got, v.Msg)
		}
	}
}

type x25519Vector struct {
	TcID                    int
	Public, Private, Shared hexBytes
	Zero                    bool
}

func x25519Vectors(t testing.TB) []x25519Vector {
	t.Helper()
	var file struct{ Tests []x25519Vector }
	readJSON(t, "testdata/wycheproof_x25519.json", &file)
	if len(file.Tests) < 500 {
		t.Fatalf("only %d vectors", len(file.Tests))
	}
	return file.Tests
}

// lowOrderPoints are the public keys that give an all-zero secret with everybody,
// in all their encodings.
func lowOrderPoints(t testing.TB) (points []PublicKey) {
	t.Helper()
	for _, v := range x25519Vectors(t) {
		if v.Zero {
			points = append(points, PublicKey(v.Public))
		}
	}
	if len(points) < 12 {
		t.Fatalf("only %d points of low order", len(points))
	}
	return points
}

func TestWycheproofX25519(t *testing.T) {
	for _, v := range x25519Vectors(t) {
		got, err := computed(v.Private, v.Public)
		if v.Zero {
			if err == nil {
				t.Errorf("case %d: an all-zero secret was given out", v.TcID)
			}
			continue
		}
		if err != nil || !bytes.Equal(got, v.Shared) {
			t.Errorf("case %d: %x, %v, want %x", v.TcID, got, err, v.Shared)
		}
	}
}
