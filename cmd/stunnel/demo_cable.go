package main

import (
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"stunnel/device/netconf"
)

// plug joins the two hosts by a cable.
func plug(a, b *demoHost) error {
	if err := lay(a, demoCable, b, demoCable); err != nil {
		return err
	}
	for _, h := range []*demoHost{a, b} {
		if err := h.setUp(demoCable, netip.PrefixFrom(h.outer, 24)); err != nil {
			return err
		}
	}
	return nil
}

// lay makes a cable from an interface of one host to one of another.
func lay(a *demoHost, device string, b *demoHost, far string) error {
	var space *os.File
	err := b.do(func() (err error) {
		space, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		return err
	}
	defer space.Close()
	return a.links(func(nl *netlink.Handle) error {
		return nl.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: device},
			PeerName:  far, PeerNamespace: netlink.NsFd(int(space.Fd())),
		})
	})
}

// links runs f on the host with a socket for its interfaces.
func (h *demoHost) links(f func(*netlink.Handle) error) error {
	return h.do(func() error {
		nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer nl.Close()
		return f(nl)
	})
}

// setUp gives an interface addresses and sets it up.
func (h *demoHost) setUp(device string, addresses ...netip.Prefix) error {
	return h.do(func() error {
		nl, err := netconf.New()
		if err != nil {
			return err
		}
		defer nl.Close()
		for _, a := range addresses {
			if err := nl.Apply(&netconf.Address{Interface: device, Prefix: a}); err != nil {
				return err
			}
		}
		return nl.Apply(&netconf.Up{Interface: device})
	})
}
