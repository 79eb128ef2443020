package main

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"stunnel/cmd/internal/conf"
	"stunnel/crypto"
	"stunnel/transport"
)

func TestTheEngineGetsWhatTheFileSays(t *testing.T) {
	private := crypto.NewPrivateKey()
	office, laptop, roamer := crypto.NewPrivateKey().Public(), crypto.NewPrivateKey().Public(), crypto.NewPrivateKey().Public()
	psk := crypto.NewPresharedKey()
	file, err := conf.Parse("peer.conf", []byte("[Interface]\nPrivateKey = "+private.Base64()+"\nListenPort = 7\nListenTCP = 443\nFwMark = 8\nTrustedChecksums = no\n"+
		"[Peer]\nName = office\nPublicKey = "+office.String()+"\nPresharedKey = "+psk.Base64()+"\nAllowedIPs = 10.0.0.0/8, fd00::/64\n"+
		"Endpoint = office.example:9\nEndpointTCP = office.example:443\nPersistentKeepalive = 25\nExtensions = required\n"+
		"[Peer]\nPublicKey = "+laptop.String()+"\nAllowedIPs = 11.0.0.0/8\n[Peer]\nPublicKey = "+roamer.String()+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	endpoints := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:9"), netip.MustParseAddrPort("[2001:db8::1]:9")}
	overTCP := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:443")}
	spoke := &spokeTCP{peers: map[string]bool{roamer.String(): true}}
	got := engineConfig(file, []whereabouts{{endpoints, overTCP}, {}, {}}, spoke)
	allowed := func(text string) transport.AllowedIPChange {
		return transport.AllowedIPChange{Prefix: netip.MustParsePrefix(text)}
	}
	want := transport.Config{
		PrivateKey: &private, ListenPort: new(uint16(7)), ListenTCP: new(uint16(443)), FwMark: new(uint32(8)), TrustedChecksums: new(false),
		Peers: []transport.PeerConfig{
			{
				PublicKey: office, Name: new("office"), PresharedKey: &psk, Endpoint: &endpoints[0], Endpoints: &endpoints, EndpointsTCP: &overTCP,
				Transport: new(transport.TransportAuto), PersistentKeepalive: new(25 * time.Second),
				Extensions: new(transport.ExtensionsRequired), AllowedIPs: []transport.AllowedIPChange{allowed("10.0.0.0/8"), allowed("fd00::/64")},
			},
			{PublicKey: laptop, PersistentKeepalive: new(time.Duration(0)), Extensions: new(transport.ExtensionsAuto), AllowedIPs: []transport.AllowedIPChange{allowed("11.0.0.0/8")}, Transport: new(transport.TransportUDP)},
			{PublicKey: roamer, PersistentKeepalive: new(time.Duration(0)), Extensions: new(transport.ExtensionsAuto), Transport: new(transport.TransportAuto)},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	file, err = conf.Parse("peer.conf", []byte("[Interface]\nPreUp = true\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := engineConfig(file, nil, &spokeTCP{}); !reflect.DeepEqual(got, transport.Config{TrustedChecksums: new(true), ListenTCP: new(uint16(0))}) {
		t.Errorf("of a file that says nothing: %+v", got)
	}
}
