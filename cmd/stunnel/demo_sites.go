package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"

	"stunnel/crypto"
)

// demoSite is a place with an Ethernet of its own: a switch, two hosts on it, and the VPN host, whose bridge connects the switch
// with the tunnel to the other site. Hosts and switch know of no tunnel.
type demoSite struct {
	sw, vpn *demoHost
	hosts   [2]*demoHost
}

const (
	demoBridge = "br0"  // of a switch, and of a VPN host
	demoUplink = "vpn"  // the switch's port for the VPN host
	demoLAN    = "eth1" // the VPN host's end of that; demoCable leads to the other site
)

// newDemoSites makes two sites with a cable between their VPN hosts, and all that is needed for `stunnel up` on these.
func newDemoSites(stderr io.Writer) (sites [2]*demoSite, err error) {
	for i, last := range [2][2]byte{{5, 6}, {3, 4}} {
		s := &demoSite{
			sw: &demoHost{name: fmt.Sprintf("switch%d", i+1)},
			vpn: &demoHost{name: fmt.Sprintf("vpn%d", i+1), outer: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}),
				stderr: stderr, key: crypto.NewPrivateKey()},
		}
		for j, n := range last {
			s.hosts[j] = &demoHost{name: fmt.Sprintf("host%d", n), inner4: netip.AddrFrom4([4]byte{192, 168, 0, n})}
		}
		if err := s.build(); err != nil {
			return sites, explainNamespaces(fmt.Errorf("cannot make site %d: %w", i+1, err))
		}
		sites[i] = s
	}
	one, two := sites[0].vpn, sites[1].vpn
	if err := plug(one, two); err != nil {
		return sites, fmt.Errorf("cannot join the sites by a veth: %w", err)
	}
	psk := crypto.NewPresharedKey()
	return sites, errors.Join(one.configureBridged(two, psk), two.configureBridged(one, psk))
}

// build makes the site's hosts and their cables.
func (s *demoSite) build() error {
	for _, h := range append(s.hosts[:], s.sw, s.vpn) {
		if err := h.begin(); err != nil {
			return fmt.Errorf("%s: %w", h.name, err)
		}
		h.hush()
	}
	if err := s.sw.bridge(); err != nil {
		return err
	}
	for _, h := range s.hosts {
		if err := s.connect(h.name, h, demoCable, netip.PrefixFrom(h.inner4, 24)); err != nil {
			return err
		}
	}
	if err := s.connect(demoUplink, s.vpn, demoLAN); err != nil {
		return err
	}
	if err := s.vpn.bridge(); err != nil {
		return err
	}
	return s.vpn.enslave(demoLAN)
}

// hush has the host's own stack say nothing that nobody asked for: no IPv6, and no packet filter for what a bridge forwards.
// Where the system does not let us there is more to be seen, and no harm done.
func (h *demoHost) hush() {
	_ = h.do(func() error {
		for path, value := range map[string]string{
			"ipv6/conf/all/disable_ipv6": "1", "ipv6/conf/default/disable_ipv6": "1",
			"bridge/bridge-nf-call-iptables": "0", "bridge/bridge-nf-call-ip6tables": "0", "bridge/bridge-nf-call-arptables": "0",
		} {
			_ = os.WriteFile(filepath.Join("/proc/sys/net", path), []byte(value), 0)
		}
		return nil
	})
}

// bridge makes a bridge on the host, which leaves multicast alone: else it joins a group of bridges that do not, and is a station
// of the LAN.
func (h *demoHost) bridge() error {
	snooping := false
	err := h.links(func(nl *netlink.Handle) error {
		return nl.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: demoBridge}, MulticastSnooping: &snooping})
	})
	if err != nil {
		return fmt.Errorf("make a Linux bridge on %s: %w", h.name, err)
	}
	return h.setUp(demoBridge)
}

// enslave makes an interface a port of the host's bridge, and sets it up.
func (h *demoHost) enslave(device string) error {
	err := h.links(func(nl *netlink.Handle) error {
		bridge, err := nl.LinkByName(demoBridge)
		if err != nil {
			return err
		}
		port, err := nl.LinkByName(device)
		if err != nil {
			return err
		}
		return nl.LinkSetMaster(port, bridge)
	})
	if err != nil {
		return fmt.Errorf("make %s of %s a port of its bridge: %w", device, h.name, err)
	}
	return h.setUp(device)
}

// connect lays a cable from a port of the switch to a host. One with an address gets a MAC address that ends alike.
func (s *demoSite) connect(port string, h *demoHost, device string, addresses ...netip.Prefix) error {
	if err := lay(s.sw, port, h, device); err != nil {
		return fmt.Errorf("lay a cable from %s to %s: %w", s.sw.name, h.name, err)
	}
	if h.inner4.IsValid() {
		err := h.links(func(nl *netlink.Handle) error {
			link, err := nl.LinkByName(device)
			if err != nil {
				return err
			}
			return nl.LinkSetHardwareAddr(link, h.mac())
		})
		if err != nil {
			return fmt.Errorf("MAC address of %s: %w", h.name, err)
		}
	}
	return errors.Join(s.sw.enslave(port), h.setUp(device, addresses...))
}

// mac is the MAC address of a host at a site.
func (h *demoHost) mac() net.HardwareAddr {
	ip := h.inner4.As4()
	return net.HardwareAddr{2, 0, 0, 0, 0, ip[3]}
}

// configureBridged writes a VPN host's configuration file, such as docs/ethernet.md has it.
func (h *demoHost) configureBridged(peer *demoHost, psk crypto.PresharedKey) error {
	text := fmt.Sprintf(`[Interface]
Mode       = tap
Bridge     = %s
PrivateKey = %s
ListenPort = %d

[Peer]
Name         = %s
PublicKey    = %s
PresharedKey = %s
Endpoint     = %s
PersistentKeepalive = 25
`, demoBridge, h.key.Base64(), demoPort, peer.name, peer.key.Public(), psk.Base64(), netip.AddrPortFrom(peer.outer, demoPort))
	return h.do(func() error { return os.WriteFile(h.conf, []byte(text), 0o600) })
}

// demoTwoSites shows two sites that are one Ethernet.
func demoTwoSites(ctx context.Context, size int64, stdout, stderr io.Writer) (err error) {
	sites, err := newDemoSites(stderr)
	if err != nil {
		return err
	}
	for _, s := range sites {
		defer func() { err = errors.Join(err, s.vpn.down()) }()
	}
	for _, s := range sites {
		if err := s.vpn.startUp(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.vpn.name, err)
		}
	}
	for _, s := range sites {
		if err := s.vpn.meet(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.vpn.name, err)
		}
	}
	fmt.Fprint(stdout, demoSitesDrawn)
	if err := demoSteps(ctx, sites, stdout); err != nil {
		return err
	}
	return measureSites(ctx, sites, size, stdout, stderr)
}

const demoSitesDrawn = `192.168.0.5 --+                                                                                    +-- 192.168.0.3
              +-- switch1 -- eth1 [br0] TAP -- stunnel ~~~~ stunnel -- TAP [br0] eth1 -- switch2 --+
192.168.0.6 --+                   vpn1             eth0    eth0            vpn2                    +-- 192.168.0.4

`

// meet waits until `stunnel up` has met its peer.
func (h *demoHost) meet(ctx context.Context) error {
	select {
	case <-h.upMet:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-h.upEnded:
		return fmt.Errorf("stunnel up ended: %w", errors.Join(h.upErr, errors.New("it had not met its peer")))
	}
}
