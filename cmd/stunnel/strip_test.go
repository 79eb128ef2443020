package main

import (
	"strings"
	"testing"

	"stunnel/crypto"
)

func TestAChangedFileIsAppliedByWgSyncconf(t *testing.T) {
	b := newBox(t)
	friend, guest := crypto.NewPrivateKey().Public().String(), crypto.NewPrivateKey().Public().String()
	psk := crypto.NewPresharedKey().Base64()
	text := "[Interface]\nPrivateKey = " + crypto.NewPrivateKey().Base64() + "\nListenPort = 4711\nAddress = 10.5.0.1/24\n" +
		"[Peer]\nName = friend\nPublicKey = " + friend + "\nAllowedIPs = 10.5.0.2/32\nPersistentKeepalive = 25\n"
	p := b.start(nil, "stunnel", "up", b.file("peer.conf", text)).untilReady()

	b.file("peer.conf", strings.Replace(text, "10.5.0.2/32", "10.5.0.7/32", 1)+
		"[Peer]\nPublicKey = "+guest+"\nPresharedKey = "+psk+"\nAllowedIPs = 10.5.0.3/32\nEndpoint = 192.0.2.1:5\n")
	b.types("wg syncconf peer <(stunnel strip ./peer.conf)")
	wantWords(t, b.sh("wg showconf peer"), "ListenPort = 4711", friend, "10.5.0.7/32", "PersistentKeepalive = 25", guest, psk, "10.5.0.3/32", "192.0.2.1:5")
	wantWords(t, b.types("stunnel show peer"), "peer: friend\n") // our names stay

	b.file("peer.conf", text)
	b.types("wg syncconf peer <(stunnel strip ./peer.conf)")
	if now := b.sh("wg showconf peer"); strings.Contains(now, guest) || !strings.Contains(now, "10.5.0.2/32") {
		t.Errorf("it was not taken back:\n%s", now)
	}
	b.start(nil, "stunnel", "down", "peer").wants(0)
	p.wants(0)
}
