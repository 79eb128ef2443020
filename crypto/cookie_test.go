package crypto

import (
	"bytes"
	"net/netip"
	"sync"
	"testing"
	"time"
)

var aliceAt = netip.MustParseAddrPort("192.0.2.1:51820")

// A door test has alice knocking at bob's.
type knocking struct {
	*pair
	jar     *CookieJar     // alice's
	checker *CookieChecker // bob's
}

func newKnocking(t testing.TB) *knocking {
	p := newPair(t)
	return &knocking{p, NewCookieJar(p.aliceToBob), NewCookieChecker(p.bob)}
}

// stamped is a fresh initiation with its MACs.
func (k *knocking) stamped(t testing.TB, now time.Duration) []byte {
	t.Helper()
	msg, _ := k.initiate(t, 0xa11ce)
	k.jar.Stamp(msg, now)
	return msg
}

// withCookie lets alice earn a cookie at that time.
func (k *knocking) withCookie(t testing.TB, now time.Duration) {
	t.Helper()
	if !k.jar.Consume(k.checker.Reply(k.stamped(t, now), aliceAt, now), now) {
		t.Fatal("the cookie was not taken")
	}
}

func hasMAC2(msg []byte) bool {
	return len(bytes.Trim(msg[len(msg)-macSize:], "\x00")) != 0
}

func TestMAC1CoversAllBeforeItAndNamesTheReceiver(t *testing.T) {
	k := newKnocking(t)
	msg := k.stamped(t, 0)
	if !k.checker.CheckMAC1(msg) {
		t.Fatal("refused")
	}
	if NewCookieChecker(k.alice).CheckMAC1(msg) {
		t.Error("a message to bob passed at alice's")
	}
	for at := range len(msg) - macSize {
		forged := bytes.Clone(msg)
		forged[at] ^= 1
		if k.checker.CheckMAC1(forged) {
			t.Fatalf("byte %d forged", at)
		}
	}
	for _, short := range [][]byte{nil, msg[:len(msg)-1], make([]byte, 148), make([]byte, 64)} {
		if k.checker.CheckMAC1(short) {
			t.Errorf("%d bytes that are no handshake message passed", len(short))
		}
	}
}

func TestResponsesHaveMACsAndCookiesToo(t *testing.T) {
	p := newPair(t)
	msg, _ := p.initiate(t, 1)
	response, _ := p.respond(t, msg, 0xb0b)
	jar, checker := NewCookieJar(p.bobToAlice), NewCookieChecker(p.alice)
	bobAt := netip.MustParseAddrPort("[2001:db8::b0b]:1")
	jar.Stamp(response, 0)
	if !checker.CheckMAC1(response) {
		t.Fatal("MAC1 refused")
	}
	reply := checker.Reply(response, bobAt, 0)
	if Receiver(reply) != 0xb0b || !jar.Consume(reply, 0) {
		t.Fatal("the cookie was not taken")
	}
	jar.Stamp(response, 0)
	if !checker.CheckMAC2(response, bobAt, 0) {
		t.Fatal("MAC2 refused")
	}
}

func TestACookieProvesTheAddressItWasSentTo(t *testing.T) {
	k := newKnocking(t)
	k.withCookie(t, 0)
	msg := k.stamped(t, time.Second)
	for _, c := range []struct {
		at   string
		good bool
	}{
		{"192.0.2.1:51820", true},
		{"[::ffff:192.0.2.1]:51820", true}, // the same host, as a dual-stack socket shows it
		{"192.0.2.1:51821", false},
		{"192.0.2.2:51820", false},
		{"[2001:db8::1]:51820", false},
	} {
		if got := k.checker.CheckMAC2(msg, netip.MustParseAddrPort(c.at), time.Second); got != c.good {
			t.Errorf("from %s: %v", c.at, got)
		}
	}
	if k.checker.CheckMAC2(msg, netip.AddrPort{}, time.Second) {
		t.Error("from nowhere")
	}
	for at := range msg {
		forged := bytes.Clone(msg)
		forged[at] ^= 1
		if k.checker.CheckMAC2(forged, aliceAt, time.Second) {
			t.Fatalf("byte %d forged", at)
		}
	}
}

func TestACookieReplyIsSmallerThanWhatItAnswersAndGoesToItsSender(t *testing.T) {
	k := newKnocking(t)
	msg := k.stamped(t, 0)
	reply := k.checker.Reply(msg, aliceAt, 0)
	if typ, ok := Type(reply); typ != TypeCookieReply || !ok || len(reply) != CookieReplySize || len(reply) >= ResponseSize {
		t.Errorf("type %v, %d bytes", typ, len(reply))
	}
	if Receiver(reply) != 0xa11ce {
		t.Errorf("to index %#x", Receiver(reply))
	}
	again := k.checker.Reply(msg, aliceAt, 0)
	if bytes.Equal(reply[cookieNonce:cookieSealed], again[cookieNonce:cookieSealed]) {
		t.Error("the same nonce twice")
	}
	if got := k.checker.Reply(reply, aliceAt, 0); got != nil {
		t.Errorf("a cookie reply was answered with %d bytes", len(got))
	}
}

func TestNoCookieIsValidBeforeTheFirstSecret(t *testing.T) {
	k := newKnocking(t)
	msg := k.stamped(t, 0)
	if k.checker.CheckMAC2(msg, aliceAt, 0) {
		t.Error("a MAC2 of zeros passed")
	}
	// The cookie that a secret of zeros would give.
	cookie := paperCookie(make([]byte, KeySize), aliceAt)
	copy(msg[len(msg)-macSize:], paperMAC(cookie, msg[:len(msg)-macSize]))
	if k.checker.CheckMAC2(msg, aliceAt, 0) {
		t.Error("a cookie of the zero secret passed")
	}
}

func TestACookieIsUsedFor115SecondsAndASecretFor120(t *testing.T) {
	const start = 1000 * time.Hour
	k := newKnocking(t)
	k.withCookie(t, start)
	for _, c := range []struct {
		age              time.Duration
		stamped, checked bool
	}{
		{0, true, true},
		{115*time.Second - 1, true, true},
		{115 * time.Second, false, false},
	} {
		msg := k.stamped(t, start+c.age)
		if hasMAC2(msg) != c.stamped {
			t.Errorf("MAC2 at %v: %v", c.age, hasMAC2(msg))
		}
		if got := k.checker.CheckMAC2(msg, aliceAt, start+c.age); got != c.checked {
			t.Errorf("checked at %v: %v", c.age, got)
		}
	}
	late := k.stamped(t, start+114*time.Second)
	if !k.checker.CheckMAC2(late, aliceAt, start+120*time.Second-1) || k.checker.CheckMAC2(late, aliceAt, start+120*time.Second) {
		t.Error("the secret does not end at 120 s")
	}
	// A new secret comes with the next cookie, and the old cookie does not return.
	k.checker.Reply(late, aliceAt, start+121*time.Second)
	if k.checker.CheckMAC2(late, aliceAt, start+121*time.Second) {
		t.Error("a cookie of the last secret passed")
	}
}

func TestTheSecretStaysWhileCookiesAreAskedFor(t *testing.T) {
	k := newKnocking(t)
	k.withCookie(t, 0)
	for s := range 119 {
		k.checker.Reply(k.stamped(t, 0), netip.MustParseAddrPort("203.0.113.1:9"), time.Duration(s)*time.Second)
	}
	if !k.checker.CheckMAC2(k.stamped(t, 110*time.Second), aliceAt, 119*time.Second) {
		t.Error("others asking for cookies ended ours")
	}
}

func TestACookieReplyIsTakenOnceAndOnlyForTheLastMessage(t *testing.T) {
	k := newKnocking(t)
	if k.jar.Consume(k.checker.Reply(mustStamp(t, k), aliceAt, 0), 0) {
		t.Error("taken by a jar that sent nothing")
	}
	first := k.stamped(t, 0)
	toFirst := k.checker.Reply(first, aliceAt, 0)
	second := k.stamped(t, 0)
	toSecond := k.checker.Reply(second, aliceAt, 0)
	if k.jar.Consume(toFirst, 0) {
		t.Error("an answer to an earlier message was taken")
	}
	for at := headerSize + indexSize; at < len(toSecond); at++ {
		forged := bytes.Clone(toSecond)
		forged[at] ^= 1
		if k.jar.Consume(forged, 0) {
			t.Fatalf("byte %d forged", at)
		}
	}
	if !k.jar.Consume(toSecond, 0) {
		t.Fatal("after forged ones the true reply was refused")
	}
	if k.jar.Consume(toSecond, 0) || k.jar.Consume(k.checker.Reply(second, aliceAt, 0), 0) {
		t.Error("a second answer to the same message was taken")
	}
	if !k.checker.CheckMAC2(k.stamped(t, 0), aliceAt, 0) {
		t.Error("the cookie does not work")
	}
	for _, other := range [][]byte{nil, first, toSecond[:63], append(bytes.Clone(toSecond), 0)} {
		if k.jar.Consume(other, 0) {
			t.Errorf("%d bytes that are no cookie reply were taken", len(other))
		}
	}
}

// mustStamp is a message that alice's jar never saw.
func mustStamp(t *testing.T, k *knocking) []byte {
	t.Helper()
	msg, _ := k.initiate(t, 1)
	NewCookieJar(k.aliceToBob).Stamp(msg, 0)
	return msg
}

func TestStampOverwritesOldMACs(t *testing.T) {
	k := newKnocking(t)
	msg, _ := k.initiate(t, 1)
	for i := range 2 * macSize {
		msg[len(msg)-1-i] = 0xee
	}
	k.jar.Stamp(msg, 0)
	if !k.checker.CheckMAC1(msg) || hasMAC2(msg) {
		t.Errorf("%x", msg[len(msg)-2*macSize:])
	}
	expectPanic(t, "a transport message", func() { k.jar.Stamp(make([]byte, 64), 0) })
}

func TestCookiesMayBeAskedForByManyAtOnce(t *testing.T) {
	k := newKnocking(t)
	msg := k.stamped(t, 0)
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			mine := bytes.Clone(msg)
			for range 50 {
				now := time.Duration(n) * time.Minute
				reply := k.checker.Reply(mine, aliceAt, now)
				k.jar.Consume(reply, now)
				k.jar.Stamp(mine, now)
				k.checker.CheckMAC2(mine, aliceAt, now)
				if !k.checker.CheckMAC1(mine) {
					t.Error("MAC1")
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkCheckMAC1(b *testing.B) {
	k := newKnocking(b)
	msg := k.stamped(b, 0)
	b.ReportAllocs()
	for b.Loop() {
		if !k.checker.CheckMAC1(msg) {
			b.Fatal("refused")
		}
	}
}

func BenchmarkCookieReply(b *testing.B) {
	k := newKnocking(b)
	msg := k.stamped(b, 0)
	b.ReportAllocs()
	for b.Loop() {
		k.checker.Reply(msg, aliceAt, 0)
	}
}
