package crypto

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata/transcripts.json anew")

const transcriptFile = "testdata/transcripts.json"

// A transcript is a conversation of two ends: all that they drew by lot, and every
// byte that went over the wire. The responder is under load, so the first
// initiation is answered by a cookie reply and comes again.
type transcript struct {
	Name                                   string
	InitiatorStatic, ResponderStatic       hexBytes // private, clamped
	InitiatorEphemeral, ResponderEphemeral hexBytes
	PSK                                    hexBytes
	InitiatorIndex, ResponderIndex         uint32
	Timestamp                              hexBytes
	InitiatorAddress                       netip.AddrPort
	CookieSecret, CookieNonce              hexBytes
	FromInitiator, FromResponder           []hexBytes // plaintexts, padded already

	Initiation        hexBytes // MAC2 zero
	CookieReply       hexBytes
	InitiationAgain   hexBytes // the same with MAC2
	Response          hexBytes
	SealedByInitiator []hexBytes
	SealedByResponder []hexBytes
}

// drawTranscript makes the inputs of a conversation out of a seed.
func drawTranscript(name string, seed byte, address string, withPSK bool) *transcript {
	lots := rand.NewChaCha8([32]byte{seed})
	draw := func(n int) hexBytes {
		b := make([]byte, n)
		lots.Read(b)
		return b
	}
	key := func() hexBytes {
		k := PrivateKey(draw(KeySize)).clamped()
		return k[:]
	}
	tr := &transcript{
		Name:            name,
		InitiatorStatic: key(), ResponderStatic: key(),
		InitiatorEphemeral: key(), ResponderEphemeral: key(),
		PSK:            make(hexBytes, KeySize),
		InitiatorIndex: uint32(lots.Uint64()), ResponderIndex: uint32(lots.Uint64()),
		InitiatorAddress: netip.MustParseAddrPort(address),
		CookieSecret:     draw(KeySize), CookieNonce: draw(nonceSizeX),
		FromInitiator: []hexBytes{{}, draw(16), draw(96)},
		FromResponder: []hexBytes{draw(1424), {}},
	}
	ts := TAI64NFrom(time.Unix(1_700_000_000+int64(seed), int64(lots.Uint64()%1e9)))
	tr.Timestamp = ts[:]
	if withPSK {
		tr.PSK = draw(KeySize)
	}
	return tr
}

// speak fills in what goes over the wire, by the package.
func (tr *transcript) speak(t *testing.T) {
	t.Helper()
	p := pairOf(t, PrivateKey(tr.InitiatorStatic), PrivateKey(tr.ResponderStatic), PresharedKey(tr.PSK))
	jar, checker := NewCookieJar(p.aliceToBob), NewCookieChecker(p.bob)
	checker.random = bytes.NewReader(append(bytes.Clone(tr.CookieSecret), tr.CookieNonce...))

	msg, i, err := initiate(p.alice, p.aliceToBob, p.psk, Index(tr.InitiatorIndex), TAI64N(tr.Timestamp), bytes.NewReader(tr.InitiatorEphemeral))
	if err != nil {
		t.Fatal(err)
	}
	jar.Stamp(msg, 0)
	tr.Initiation = bytes.Clone(msg)
	if !checker.CheckMAC1(msg) || checker.CheckMAC2(msg, tr.InitiatorAddress, 0) {
		t.Fatal("MAC1 must be right and MAC2 not yet")
	}
	tr.CookieReply = checker.Reply(msg, tr.InitiatorAddress, 0)
	if !jar.Consume(tr.CookieReply, 0) {
		t.Fatal("the cookie was not taken")
	}
	jar.Stamp(msg, 0)
	tr.InitiationAgain = msg
	if !checker.CheckMAC1(msg) || !checker.CheckMAC2(msg, tr.InitiatorAddress, 0) {
		t.Fatal("both MACs must be right now")
	}

	r, err := accept(p.bob, msg, p.lookup, bytes.NewReader(tr.ResponderEphemeral))
	if err != nil {
		t.Fatal(err)
	}
	if ts := r.Timestamp(); !bytes.Equal(ts[:], tr.Timestamp) || r.Remote() != p.bobToAlice || r.RemoteIndex() != Index(tr.InitiatorIndex) {
		t.Fatalf("accepted %x of %v as %#x", ts, r.Remote().PublicKey(), r.RemoteIndex())
	}
	msg, bob, err := r.Respond(p.psk, Index(tr.ResponderIndex))
	if err != nil {
		t.Fatal(err)
	}
	NewCookieJar(p.bobToAlice).Stamp(msg, 0)
	if !NewCookieChecker(p.alice).CheckMAC1(msg) {
		t.Fatal("MAC1 of the response")
	}
	tr.Response = msg
	alice, err := i.Finish(msg, p.psk)
	if err != nil {
		t.Fatal(err)
	}
	if !alice.Initiator() || bob.Initiator() {
		t.Fatal("who was the initiator?")
	}
	tr.SealedByInitiator = sealAll(t, alice, bob, tr.FromInitiator)
	tr.SealedByResponder = sealAll(t, bob, alice, tr.FromResponder)
}

// sealAll seals the packets as one train, opens them at the other end and returns
// what was on the wire.
func sealAll(t *testing.T, from, to *Keypair, packets []hexBytes) (sealed []hexBytes) {
	t.Helper()
	var train []Plaintext
	room := 0
	for _, p := range packets {
		cut := min(len(p), 64)
		train = append(train, Plaintext{First: p[:cut], Rest: p[cut:]})
		room += len(p) + TransportOverhead
	}
	first, ok := from.Reserve(len(train))
	if !ok {
		t.Fatal("no counters")
	}
	wire := from.Seal(make([]byte, 0, room), first, train)
	for _, p := range packets {
		n := len(p) + TransportOverhead
		sealed = append(sealed, bytes.Clone(wire[:n]))
		if got := openOne(to, wire[:n]); !bytes.Equal(got, p) {
			t.Fatalf("opened as %x, want %x", got, p)
		}
		wire = wire[n:]
	}
	return sealed
}

// expectPaper fails unless the whitepaper's formulas give every byte of tr.
func (tr *transcript) expectPaper(t *testing.T) {
	t.Helper()
	cookie := paperCookie(tr.CookieSecret, tr.InitiatorAddress)
	paper := paperConversation{
		initiatorStatic: tr.InitiatorStatic, responderStatic: tr.ResponderStatic,
		initiatorEphemeral: tr.InitiatorEphemeral, responderEphemeral: tr.ResponderEphemeral,
		psk: tr.PSK, initiatorIndex: tr.InitiatorIndex, responderIndex: tr.ResponderIndex,
		timestamp: tr.Timestamp,
	}
	paper.run()
	expectBytes(t, "initiation", tr.Initiation, paper.initiation)
	expectBytes(t, "cookie reply", tr.CookieReply, paperCookieReply(paper.initiation, paperPublic(tr.ResponderStatic), tr.CookieNonce, cookie))
	expectBytes(t, "response", tr.Response, paper.response)
	for n, plain := range tr.FromInitiator {
		expectBytes(t, fmt.Sprint("message to the responder ", n), tr.SealedByInitiator[n], paperTransport(paper.toResponder, tr.ResponderIndex, uint64(n), plain))
	}
	for n, plain := range tr.FromResponder {
		expectBytes(t, fmt.Sprint("message to the initiator ", n), tr.SealedByResponder[n], paperTransport(paper.toInitiator, tr.InitiatorIndex, uint64(n), plain))
	}
	paper.responderCookie = cookie
	paper.run()
	expectBytes(t, "initiation with MAC2", tr.InitiationAgain, paper.initiation)
}

func expectBytes(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\n got %x\nwant %x", what, got, want)
	}
}

func TestRecordedTranscriptsAreSpokenAgainByteForByte(t *testing.T) {
	if *update {
		var file struct{ Transcripts []*transcript }
		for _, tr := range []*transcript{
			drawTranscript("no preshared key, IPv4", 1, "192.0.2.1:51820", false),
			drawTranscript("preshared key, IPv4", 2, "198.51.100.77:1024", true),
			drawTranscript("preshared key, IPv6", 3, "[2001:db8::2:1]:443", true),
		} {
			tr.speak(t)
			file.Transcripts = append(file.Transcripts, tr)
		}
		text, err := json.MarshalIndent(file, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(transcriptFile, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var file struct{ Transcripts []*transcript }
	readJSON(t, transcriptFile, &file)
	if len(file.Transcripts) != 3 {
		t.Fatalf("%d transcripts, want 3", len(file.Transcripts))
	}
	for _, recorded := range file.Transcripts {
		t.Run(recorded.Name, func(t *testing.T) {
			spoken := *recorded
			spoken.Initiation, spoken.CookieReply, spoken.InitiationAgain, spoken.Response = nil, nil, nil, nil
			spoken.SealedByInitiator, spoken.SealedByResponder = nil, nil
			spoken.speak(t)
			got, err := json.Marshal(spoken)
			if err != nil {
				t.Fatal(err)
			}
			want, err := json.Marshal(recorded)
			if err != nil {
				t.Fatal(err)
			}
			expectBytes(t, "transcript", got, want)
			recorded.expectPaper(t)
		})
	}
}

func TestTheWhitepapersFormulasGiveTheSameBytes(t *testing.T) {
	for seed := range byte(20) {
		address := []string{"203.0.113.9:40000", "[fd00::1]:65535"}[seed%2]
		tr := drawTranscript("", 100+seed, address, seed%3 != 0)
		tr.speak(t)
		tr.expectPaper(t)
		if t.Failed() {
			t.Fatalf("seed %d", 100+seed)
		}
	}
}
