package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// resolved is systemd-resolved, as org.freedesktop.resolve1(5) has it.
type resolved struct {
	bus     *dbus.Conn
	manager dbus.BusObject
	ctx     context.Context
	cancel  context.CancelFunc
}

const (
	resolvedName = "org.freedesktop.resolve1"
	manager      = resolvedName + ".Manager."
	resolvedRun  = "/run/systemd/resolve"

	// busTime is what the bus and resolved have for all that they are asked at once: a bus that hangs must not hold us up.
	busTime = 10 * time.Second

	// linkTime is what resolved has to learn of an interface from the kernel, which it does on its own and tells nobody.
	linkTime  = 3 * time.Second
	linkPause = 10 * time.Millisecond
)

// stubs are the addresses at which resolved serves programs that know no D-Bus.
var stubs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 53}), netip.AddrFrom4([4]byte{127, 0, 0, 54})}

var errNotServed = errors.New("systemd-resolved does not serve this network namespace")

// leadsToResolved says whether programs on this machine ask resolved: by its address in resolv.conf, by a link to one of the
// files that it keeps, or by the switch of the C library.
func leadsToResolved() bool {
	if p, err := findPlace(resolvConf); err == nil {
		if strings.HasPrefix(p.path, resolvedRun+"/") {
			return true
		}
		for _, s := range parse(p.text).servers {
			if slices.Contains(stubs, s) {
				return true
			}
		}
	}
	text, _ := os.ReadFile(nsswitch) // a machine without has no such switch
	for line := range strings.Lines(string(text)) {
		database, services, _ := strings.Cut(line, ":")
		services, _, _ = strings.Cut(services, "#")
		if strings.TrimSpace(database) == "hosts" && slices.Contains(strings.Fields(services), "resolve") {
			return true
		}
	}
	return false
}

// dialResolved reaches resolved over the system's bus. It does not start it. errNotServed: it is not there, or it is that of
// another network namespace, which knows interfaces of the same numbers that are others.
func dialResolved() (*resolved, error) {
	ctx, cancel := context.WithTimeout(context.Background(), busTime)
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, fmt.Errorf("%w: no D-Bus: %w", errNotServed, err)
	}
	r := &resolved{bus: bus, manager: bus.Object(resolvedName, "/org/freedesktop/resolve1"), ctx: ctx, cancel: cancel}
	if err := r.serves(); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *resolved) serves() error {
	var pid uint32
	call := r.bus.BusObject().CallWithContext(r.ctx, "org.freedesktop.DBus.GetConnectionUnixProcessID", 0, resolvedName)
	if err := call.Store(&pid); err != nil {
		if refused(err, "org.freedesktop.DBus.Error.NameHasNoOwner") {
			return errNotServed
		}
		return fmt.Errorf("systemd-resolved: %w", err)
	}
	if same, err := sameNamespace(pid); err != nil || !same {
		return errNotServed
	}
	return nil
}

func (r *resolved) close() {
	// What was sent has been answered; there is nothing that closing could lose.
	_ = r.bus.Close()
	r.cancel()
}

// linkServer and linkDomain are what the methods below take.
type linkServer struct {
	Family  int32
	Address []byte
}

type linkDomain struct {
	Domain    string
	RouteOnly bool
}

// set gives the interface its servers and domains. Without domains of its own to route, all names are led to them, also past
// the servers of other interfaces.
func (r *resolved) set(s Settings) error {
	if err := r.awaitLink(s); err != nil {
		return err
	}
	var servers []linkServer
	for _, a := range s.Servers {
		servers = append(servers, linkServer{family(a), a.AsSlice()})
	}
	if err := r.call("SetLinkDNS", int32(s.Index), servers); err != nil {
		return err
	}
	var domains []linkDomain
	for _, d := range s.Search {
		domains = append(domains, linkDomain{d, false})
	}
	route := s.Route
	if len(s.Servers) > 0 && len(route) == 0 {
		route = []string{"."}
	}
	for _, d := range route {
		domains = append(domains, linkDomain{d, true})
	}
	if err := r.call("SetLinkDomains", int32(s.Index), domains); err != nil {
		return err
	}
	err := r.call("SetLinkDefaultRoute", int32(s.Index), len(s.Servers) > 0 && !s.split())
	if refused(err, "org.freedesktop.DBus.Error.UnknownMethod") {
		return nil // before systemd 240; there the domains alone tell
	}
	return err
}

// awaitLink returns when resolved knows the interface.
func (r *resolved) awaitLink(s Settings) error {
	for end := time.Now().Add(linkTime); ; {
		err := r.call("GetLink", int32(s.Index))
		if !refused(err, resolvedName+".NoSuchLink") || time.Now().After(end) {
			return err
		}
		select {
		case <-time.After(linkPause):
		case <-r.ctx.Done():
			return r.ctx.Err()
		}
	}
}

// revert makes resolved forget what the interface was given, if the interface is there still: else it has.
func (r *resolved) revert(s Settings) error {
	if l, err := net.InterfaceByIndex(s.Index); err == nil && l.Name != s.Interface {
		return nil // somebody else's now has the number
	}
	err := r.call("RevertLink", int32(s.Index))
	if refused(err, resolvedName+".NoSuchLink") {
		return nil
	}
	return err
}

func (r *resolved) call(method string, args ...any) error {
	if err := r.manager.CallWithContext(r.ctx, manager+method, dbus.FlagNoAutoStart, args...).Err; err != nil {
		return fmt.Errorf("systemd-resolved: %s: %w", method, err)
	}
	return nil
}

// servers are the name servers of all interfaces but those that skip names, and of resolved itself.
func (r *resolved) servers(skip func(index int) bool) ([]netip.Addr, error) {
	var value dbus.Variant
	call := r.manager.CallWithContext(r.ctx, "org.freedesktop.DBus.Properties.Get", dbus.FlagNoAutoStart, resolvedName+".Manager", "DNS")
	if err := call.Store(&value); err != nil {
		return nil, fmt.Errorf("systemd-resolved: name servers: %w", err)
	}
	var all []struct {
		Index, Family int32
		Address       []byte
	}
	if err := dbus.Store([]any{value.Value()}, &all); err != nil {
		return nil, fmt.Errorf("systemd-resolved: name servers: %w", err)
	}
	var found []netip.Addr
	for _, s := range all {
		a, ok := netip.AddrFromSlice(s.Address)
		if !ok || s.Index != 0 && skip(int(s.Index)) {
			continue
		}
		if a.Is6() && a.IsLinkLocalUnicast() {
			a = a.WithZone(strconv.Itoa(int(s.Index)))
		}
		if !slices.Contains(found, a) {
			found = append(found, a)
		}
	}
	return found, nil
}

// refused says whether the other end has answered with the error of that name.
func refused(err error, name string) bool {
	var e dbus.Error
	return errors.As(err, &e) && e.Name == name
}

func family(a netip.Addr) int32 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
