package netconf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ipv6Conf has a directory for each interface.
const ipv6Conf = "/proc/sys/net/ipv6/conf"

// Forwarding are the steps after which the interfaces forward what comes in by them, for the tunnel name. All of them exist.
//
// What counts is where a packet comes in. So IPv4 needs no more than conf.IF.forwarding of these interfaces, and not
// ip_forward, which would make of all others a router too. IPv6 has such a switch, force_forwarding, from Linux 6.17 on.
// Before, there is only one for all interfaces, and with that on the kernel no longer believes router advertisements, and
// removes the default route that came from them, except where accept_ra is 2.
func (h *Handle) Forwarding(name string, interfaces []string, ipv6 bool) ([]Step, error) {
	var steps []Step
	for _, i := range interfaces {
		steps = append(steps, &Sysctl{Key: "net/ipv4/conf/" + i + "/forwarding", Value: "1", For: name})
	}
	if _, err := os.Stat(ipv6Conf); err != nil || !ipv6 {
		return steps, nil
	}
	if _, err := os.Stat(filepath.Join(ipv6Conf, "all/force_forwarding")); err == nil {
		for _, i := range interfaces {
			steps = append(steps, &Sysctl{Key: "net/ipv6/conf/" + i + "/force_forwarding", Value: "1", For: name})
		}
		return steps, nil
	}
	router, err := h.routerIPv6(name)
	return append(steps, router...), err
}

// routerIPv6 is how IPv6 is forwarded before Linux 6.17.
func (h *Handle) routerIPv6(name string) (steps []Step, err error) {
	advertised, err := h.advertised()
	if err != nil {
		return nil, err
	}
	for _, i := range advertised {
		steps = append(steps, &Sysctl{Key: "net/ipv6/conf/" + i + "/accept_ra", Value: "2", For: name})
	}
	return append(steps, &RouterIPv6{For: name}), nil
}

// advertised are the interfaces with routes from router advertisements whose kernel still believes those.
func (h *Handle) advertised() (names []string, err error) {
	routes, err := h.listRoutes(unix.AF_INET6, &netlink.Route{Protocol: unix.RTPROT_RA, Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("routes from router advertisements: %w", err)
	}
	for _, r := range routes {
		for _, index := range hops(r) {
			name := h.nameOf(index)
			text, err := os.ReadFile(filepath.Join(ipv6Conf, name, "accept_ra"))
			if err == nil && strings.TrimSpace(string(text)) != "0" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// RouterIPv6 makes the host a router for IPv6, on all interfaces, for as long as at least one tunnel needs it. The kernel
// writes the value through to every interface: what each had before comes back.
type RouterIPv6 struct {
	For string // the interface that needs it
}

const routerThing = "sysctl.net.ipv6.conf.forwarding"

func (r *RouterIPv6) String() string { return "sysctl net.ipv6.conf.all.forwarding = 1" }

// Look is done where the host is a router already, and not by us.
func (r *RouterIPv6) Look(h *Handle) (done bool, err error) {
	now, err := readForwarding("all")
	if err != nil {
		return false, err
	}
	shared, err := h.claimed(routerThing)
	return now == "1" && !shared, err
}

func (r *RouterIPv6) Make(h *Handle) error {
	_, err := h.claim(routerThing, r.For, func() (string, error) {
		before, err := allForwarding()
		if err != nil {
			return "", err
		}
		text, err := json.Marshal(before)
		return string(text), err
	})
	if err != nil {
		return err
	}
	return writeForwarding("all", "1")
}

// Undo brings back what each interface had. One that somebody else has set to 0 since keeps that, and so does the whole if
// it is not 1 any more.
func (r *RouterIPv6) Undo(h *Handle) error {
	return h.release(routerThing, r.For, func(original string) error {
		var before map[string]string
		if err := json.Unmarshal([]byte(original), &before); err != nil {
			return fmt.Errorf("%s: %w", routerThing, err)
		}
		now, err := allForwarding()
		if err != nil || now["all"] != "1" {
			return err
		}
		if err := writeForwarding("all", before["all"]); err != nil {
			return err
		}
		var errs []error
		for _, name := range slices.Sorted(maps.Keys(before)) {
			if name != "all" && now[name] == "1" {
				errs = append(errs, writeForwarding(name, before[name]))
			}
		}
		return errors.Join(errs...)
	})
}

func allForwarding() (map[string]string, error) {
	entries, err := os.ReadDir(ipv6Conf)
	if err != nil {
		return nil, err
	}
	values := make(map[string]string)
	for _, e := range entries {
		value, err := readForwarding(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // the interface has gone
		}
		if err != nil {
			return nil, err
		}
		values[e.Name()] = value
	}
	return values, nil
}

func readForwarding(name string) (string, error) {
	s := Sysctl{Key: "net/ipv6/conf/" + name + "/forwarding"}
	return s.read()
}

func writeForwarding(name, value string) error {
	s := Sysctl{Key: "net/ipv6/conf/" + name + "/forwarding"}
	if now, err := s.read(); errors.Is(err, fs.ErrNotExist) || now == value {
		return nil
	}
	return s.set(value)
}
