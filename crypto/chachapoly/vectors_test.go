package chachapoly

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
)

type hexBytes []byte

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

func TestVectorsOfRFC8439(t *testing.T) {
	var file struct {
		Streams []struct {
			Name               string
			Key, Nonce, Stream hexBytes
			Counter            uint32
		}
		MACs []struct {
			Name          string
			Key, Msg, Tag hexBytes
		}
		Sealed []struct {
			Name                              string
			Key, Nonce, AAD, Msg, Cipher, Tag hexBytes
		}
	}
	readJSON(t, "testdata/rfc8439.json", &file)
	if len(file.Streams) < 9 || len(file.MACs) < 11 || len(file.Sealed) < 1 {
		t.Fatalf("vectors are missing: %d, %d, %d", len(file.Streams), len(file.MACs), len(file.Sealed))
	}
	eachPath(t, func(t *testing.T, p path) {
		u := unitsOf[p]
		for _, v := range file.Streams {
			if v.Counter == 0 {
				v.Stream = v.Stream[:32]
			}
			if got := u.stream([32]byte(v.Key), [12]byte(v.Nonce), v.Counter, len(v.Stream)); !bytes.Equal(got, v.Stream) {
				t.Errorf("%s: key stream\n%x, want\n%x", v.Name, got, v.Stream)
			}
		}
		for _, v := range file.MACs {
			if got := u.mac([32]byte(v.Key), v.Msg); !bytes.Equal(got[:], v.Tag) {
				t.Errorf("%s: tag %x, want %x", v.Name, got, v.Tag)
			}
		}
		for _, v := range file.Sealed {
			sealed, tag := u.seal([32]byte(v.Key), [12]byte(v.Nonce), v.AAD, v.Msg)
			if !bytes.Equal(sealed, v.Cipher) || !bytes.Equal(tag[:], v.Tag) {
				t.Errorf("%s: sealed as %x, tag %x", v.Name, sealed, tag)
			}
		}
	})
}

type wycheproof struct {
	TcID                       int
	Key, IV, AAD, Msg, CT, Tag hexBytes
	Result                     string
}

func wycheproofVectors(t testing.TB) []wycheproof {
	t.Helper()
	var file struct{ Tests []wycheproof }
	readJSON(t, "../testdata/wycheproof_chacha20_poly1305.json", &file)
	results := map[string]int{}
	for _, v := range file.Tests {
		results[v.Result]++
	}
	if results["valid"] < 200 || results["invalid"] < 50 {
		t.Fatalf("vectors are missing: %v", results)
	}
	return file.Tests
}

// All of them, whatever their nonce and associated data, through the halves.
func TestWycheproofThroughTheHalves(t *testing.T) {
	vectors := wycheproofVectors(t)
	eachPath(t, func(t *testing.T, p path) {
		for _, v := range vectors {
			sealed, tag := unitsOf[p].seal([32]byte(v.Key), [12]byte(v.IV), v.AAD, v.Msg)
			if same := bytes.Equal(sealed, v.CT) && bytes.Equal(tag[:], v.Tag); same != (v.Result == "valid") {
				t.Errorf("case %d is %s, but sealed as %x, tag %x", v.TcID, v.Result, sealed, tag)
			}
		}
	})
}

// The attacks on tags as packets meet them, a train of 128 copies of which each has
// another bit of the tag flipped.
func TestWycheproofTagsThroughTrains(t *testing.T) {
	vectors := wycheproofVectors(t)
	eachPath(t, func(t *testing.T, p path) {
		for _, v := range vectors {
			if v.Result != "valid" {
				continue
			}
			c := lanes([KeySize]byte(v.Key), p)
			sealed := make([]byte, len(v.Msg)+TagSize)
			c.Seal([]Packet{{Counter: uint64(v.TcID), Rest: v.Msg, Sealed: sealed}})
			train, ok := make([]Packet, 8*TagSize+1), make([]bool, 8*TagSize+1)
			for i := range train {
				copy := bytes.Clone(sealed)
				train[i] = Packet{Counter: uint64(v.TcID), Rest: copy[:len(v.Msg)], Sealed: copy}
				if i < 8*TagSize {
					copy[len(v.Msg)+i/8] ^= 1 << (i % 8)
				}
			}
			c.Open(train, ok)
			for i := range train {
				if ok[i] != (i == 8*TagSize) {
					t.Fatalf("case %d, bit %d of the tag flipped: opened is %v", v.TcID, i, ok[i])
				}
			}
			if got := train[8*TagSize].Rest; !bytes.Equal(got, v.Msg) {
				t.Fatalf("case %d opened as %x, want %x", v.TcID, got, v.Msg)
			}
		}
	})
}
