package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strings"

	"stunnel/crypto"
)

// tunnel is one of those that are compared.
type tunnel struct {
	name    string
	version string
	start   func(context.Context, *world) error
}

// reference is the tunnel that ratios are to.
const reference = "wireguard-go"

// noTunnel is the cable itself with the kernel's offloads: the upper bound.
func noTunnel() *tunnel {
	return &tunnel{name: "no tunnel", version: "veth with segmentation offload", start: func(ctx context.Context, w *world) error {
		if err := w.a.ip(ctx, "address add %s/24 dev eth0", innerA); err != nil {
			return err
		}
		return w.b.ip(ctx, "address add %s/24 dev eth0", innerB)
	}}
}

// stunnel is a build of ours, run as anybody would.
func stunnel(name, version, path string) *tunnel {
	return stunnelWith(name, version, path, "", "Endpoint = "+outerA+":51820\n", "")
}

// stunnelTCP is the same over TCP, which one end dials.
func stunnelTCP(version, path string) *tunnel {
	return stunnelWith("stunnel TCP", version, path, "Transport = tcp\n", "", "ListenTCP = 51820\n")
}

// stunnelWith has lines for a's [Peer], b's and b's [Interface].
func stunnelWith(name, version, path, peerA, peerB, interfaceB string) *tunnel {
	return &tunnel{name: name, version: version, start: func(ctx context.Context, w *world) error {
		keyA, keyB := crypto.NewPrivateKey(), crypto.NewPrivateKey()
		conf := func(name string, key crypto.PrivateKey, address, lines string, peer crypto.PrivateKey, peerAddress, peerLines string) (string, error) {
			return w.file(name+"/vpn.conf", fmt.Sprintf("[Interface]\nPrivateKey = %s\nAddress = %s/24\nListenPort = 51820\nMTU = %d\n%s\n"+
				"[Peer]\nPublicKey = %s\nAllowedIPs = %s/32\n%s",
				key.Base64(), address, innerMTU, lines, peer.Public().Base64(), peerAddress, peerLines), 0o600)
		}
		confA, err := conf("a", keyA, innerA, "", keyB, innerB, "Endpoint = "+outerB+":51820\n"+peerA)
		if err != nil {
			return err
		}
		confB, err := conf("b", keyB, innerB, interfaceB, keyA, innerA, peerB)
		if err != nil {
			return err
		}
		return w.startEnds(nil, []string{path, "up", confA}, []string{path, "up", confB})
	}}
}

// wireguardGo is wireguard-go, set up over its configuration socket.
func wireguardGo(version, path string) *tunnel {
	return &tunnel{name: reference, version: version, start: func(ctx context.Context, w *world) error {
		args := []string{path, "-f", "wg0"}
		if err := w.startEnds([]string{"LOG_LEVEL=error"}, args, args); err != nil {
			return err
		}
		keyA, keyB := crypto.NewPrivateKey(), crypto.NewPrivateKey()
		for i, end := range []struct {
			key      crypto.PrivateKey
			peer     crypto.PublicKey
			inner    string
			endpoint string
		}{{keyA, keyB.Public(), innerB, outerB}, {keyB, keyA.Public(), innerA, outerA}} {
			h := []*host{w.a, w.b}[i]
			// The host's /run, seen from outside.
			socket := fmt.Sprintf("/proc/%d/root/run/wireguard/wg0.sock", h.pid())
			there := func() bool { _, err := os.Stat(socket); return err == nil }
			if err := w.ends[i].await(ctx, "configuration socket", there); err != nil {
				return err
			}
			if err := setOverUAPI(socket, fmt.Sprintf("private_key=%s\nlisten_port=51820\npublic_key=%s\nallowed_ip=%s/32\nendpoint=%s:51820\n",
				end.key.Hex(), end.peer.Hex(), end.inner, end.endpoint)); err != nil {
				return err
			}
		}
		return w.address(ctx, "wg0")
	}}
}

// setOverUAPI gives a WireGuard its configuration
// (https://www.wireguard.com/xplatform/).
func setOverUAPI(socket, lines string) error {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, "set=1\n%s\n", lines); err != nil {
		return err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && strings.TrimSpace(answer) != "errno=0" {
		err = fmt.Errorf("the configuration was refused: %s", strings.TrimSpace(answer))
	}
	return err
}
