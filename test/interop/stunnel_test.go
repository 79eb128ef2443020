package interop

import (
	"context"
	"net/netip"
	"time"

	"stunnel/crypto"
	"stunnel/transport"
)

// extended is stunnel as it comes, which tries each peer for extensions; stunnel
// is one that has them off, and so speaks nothing but WireGuard.
var (
	stunnel  = maker{"stunnel", func(e *end) implementation { return startStunnel(e, transport.ExtensionsOff) }}
	extended = maker{"stunnel with extensions", func(e *end) implementation { return startStunnel(e, transport.ExtensionsAuto) }}
)

// narrowPath is what stunnel takes the way's MTU for: less than full packets need,
// which to another stunnel would leave in fragments.
const narrowPath = 1280

// tunnel is stunnel's end.
type tunnel struct {
	*transport.Tunnel
	e          *end
	extensions transport.Extensions
	cancel     context.CancelFunc
	ended      chan error
}

func startStunnel(e *end, extensions transport.Extensions) implementation {
	e.w.t.Helper()
	t := &tunnel{e: e, extensions: extensions, ended: make(chan error, 1)}
	var queues []transport.Queue
	for _, q := range e.device.Queues() {
		queues = append(queues, q)
	}
	t.Tunnel = transport.New(transport.Options{
		Queues: queues, Listen: t.listen, MTU: mtu, Version: longestVersion,
		PathMTU: func(netip.Addr, uint32) int { return narrowPath },
	})
	port := uint16(outerPort)
	if err := t.Configure(transport.Config{PrivateKey: &e.private, ListenPort: &port}); err != nil {
		e.w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel = cancel
	go func() { t.ended <- t.Run(ctx) }()
	if err := t.SetUp(true); err != nil {
		e.w.t.Fatal(err)
	}
	return t
}

func (t *tunnel) listen(port uint16, n int, mark uint32) ([]transport.Socket, error) {
	opened, err := t.e.host.Listen(port, n, mark)
	if err != nil {
		return nil, err
	}
	var sockets []transport.Socket
	for _, s := range opened {
		sockets = append(sockets, s)
	}
	return sockets, nil
}

func (t *tunnel) configure(p peer) {
	t.e.w.t.Helper()
	c := transport.PeerConfig{
		PublicKey: p.key, PresharedKey: &p.psk, PersistentKeepalive: &p.keepalive, ReplaceAllowedIPs: true,
		Extensions: &t.extensions,
	}
	if p.endpoint.IsValid() {
		c.Endpoint = &p.endpoint
	}
	for _, prefix := range p.allowed {
		c.AllowedIPs = append(c.AllowedIPs, transport.AllowedIPChange{Prefix: prefix})
	}
	if err := t.Configure(transport.Config{Peers: []transport.PeerConfig{c}}); err != nil {
		t.e.w.t.Fatal(err)
	}
}

func (t *tunnel) state(key crypto.PublicKey) state {
	t.e.w.t.Helper()
	for _, p := range t.Status().Peers {
		if p.PublicKey == key {
			return state{p.Endpoint, p.LastHandshake, p.TxBytes, p.RxBytes, p.PersistentKeepalive}
		}
	}
	t.e.w.t.Fatalf("%s does not know the peer", t.e.name)
	return state{}
}

func (t *tunnel) stop() {
	t.cancel()
	select {
	case err := <-t.ended:
		if err != nil {
			t.e.w.t.Errorf("%s: Run ended with %v", t.e.name, err)
		}
	case <-time.After(time.Minute):
		t.e.w.t.Errorf("%s: Run has not ended a minute after its context", t.e.name)
	}
}
