package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"stunnel/cmd/internal/conf"
	"stunnel/device/netconf"
	"stunnel/transport"
)

// climb does everything between the bare interface and a tunnel that works.
func (u *upward) climb(ctx context.Context) error {
	for _, s := range newPlan(u.file).steps {
		if s.take == nil {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := s.take(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

// ready tells that all is there.
func (u *upward) ready(ctx context.Context) error {
	if u.tunnel.engine.Status().PrivateKey.IsZero() {
		return withHint(fmt.Errorf("%s: there is no private key: the file has none, and no PreUp or PostUp has set one", u.file.Path),
			"a hook sets it by: wg set %i private-key FILE")
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := u.keepRules(); err != nil {
		return err
	}
	u.log.Info(readyMessage)
	if u.daemon == nil {
		return nil
	}
	hookOutput, err := u.daemon.ready(u.out, u.log)
	if err != nil {
		return err
	}
	u.hooks.out = hookOutput
	return nil
}

// mtu is the file's, or wg-quick's choice. But below 1280 the kernel would take all IPv6 off the interface again, and say
// nothing: where there is IPv6, packets that are cut up outside are better than that.
func (u *upward) mtu() int {
	if u.file.Interface.Ethernet {
		return u.tapMTU()
	}
	if u.file.Interface.MTU != 0 {
		return u.file.Interface.MTU
	}
	const least = 1280
	mtu := u.net.DefaultMTU(u.endpoints(), u.tunnel.engine.Status().FwMark)
	if mtu < least && u.hasIPv6() {
		u.log.Warn(fmt.Sprintf("the way to the endpoints has room for an MTU of %d only, and IPv6 needs %d: packets will be fragmented outside", mtu, least))
		return least
	}
	return mtu
}

func (u *upward) hasIPv6() bool { return hasIPv6(u.file) }

func hasIPv6(f *conf.File) bool {
	for _, a := range f.Interface.Address {
		if a.Addr().Is6() {
			return true
		}
	}
	for _, p := range f.Peers {
		for _, a := range p.AllowedIPs {
			if a.Addr().Is6() {
				return true
			}
		}
	}
	return false
}

// step takes one step of netconf's, unless the end has come, and tells it.
func (u *upward) step(ctx context.Context, s netconf.Step) error {
	if err := u.change(ctx, s); err != nil {
		return err
	}
	u.log.Info(s.String())
	return nil
}

// change takes one step of netconf's, unless the end has come.
func (u *upward) change(ctx context.Context, s netconf.Step) error {
	err := u.journal.Do(ctx, s)
	if file := (*fs.PathError)(nil); errors.Is(err, unix.EACCES) && !errors.As(err, &file) { // who lacks the right gets EPERM
		err = withHint(err, "take IPv6 out of Address and AllowedIPs, or switch it on: sysctl -w net.ipv6.conf.all.disable_ipv6=0 "+
			"(for a container: docker run --sysctl net.ipv6.conf.all.disable_ipv6=0)")
	}
	return openHint(err, "stunnel up "+u.file.Path)
}

func (u *upward) engineUp() error {
	err := u.tunnel.engine.SetUp(true)
	if errors.Is(err, unix.EADDRINUSE) {
		return withHint(err, "another program has it: stunnel doctor "+u.file.Path+" tells which; or choose another ListenPort")
	}
	if err == nil {
		u.log.Info(fmt.Sprintf("listening on UDP port %d", u.tunnel.engine.Status().ListenPort))
	}
	return err
}

// configure gives the engine what the file says, the names of endpoints resolved.
func (u *upward) configure(ctx context.Context) error {
	u.lookups = newLookups(u.file, u.tunnel.engine)
	endpoints, err := u.resolve(ctx)
	if err != nil {
		return err
	}
	if err := u.tunnel.Configure(engineConfig(u.file, endpoints)); err != nil {
		return fmt.Errorf("%s: %w", u.file.Path, err)
	}
	own := u.tunnel.Status().PublicKey // perhaps set by a hook
	for _, p := range u.file.Peers {
		if p.PublicKey == own {
			u.tunnel.warnOfOwnKey(p.Name, own)
		}
	}
	return nil
}

// engineConfig is f as the engine takes it; endpoints[i] is that of f.Peers[i].
func engineConfig(f *conf.File, endpoints []netip.AddrPort) transport.Config {
	in := &f.Interface
	c := transport.Config{PrivateKey: in.PrivateKey, ListenPort: in.ListenPort, FwMark: in.FwMark, TrustedChecksums: &in.TrustedChecksums}
	configureSwitch(&c, in)
	for i, p := range f.Peers {
		pc := transport.PeerConfig{PublicKey: p.PublicKey, PresharedKey: p.PresharedKey, PersistentKeepalive: &p.PersistentKeepalive,
			Extensions: &p.Extensions}
		if len(p.MACs) > 0 {
			pc.MACs = &p.MACs
		}
		if p.Name != "" {
			pc.Name = &p.Name
		}
		if endpoints[i].IsValid() {
			pc.Endpoint = &endpoints[i]
		}
		for _, prefix := range p.AllowedIPs {
			pc.AllowedIPs = append(pc.AllowedIPs, transport.AllowedIPChange{Prefix: prefix})
		}
		c.Peers = append(c.Peers, pc)
	}
	return c
}

// configureSwitch adds how frames are switched, if they are; where the file does not say, the engine has its defaults.
func configureSwitch(c *transport.Config, in *conf.Interface) {
	if !in.Ethernet {
		return
	}
	if in.MACAgeing != 0 {
		c.MACAgeing = &in.MACAgeing
	}
	if in.MACLimit != 0 {
		c.MACLimit = &in.MACLimit
	}
	c.StormLimit = in.StormLimit
	c.Forward, c.PortSecurity, c.LinkLocalFrames = &in.Forward, &in.PortSecurity, &in.LinkLocalFrames
}

// resolvePatience is how long a resolver may take before we say what we wait for.
const resolvePatience = 2 * time.Second

// resolve finds the addresses of all endpoints at the same time. A peer without one has the zero AddrPort.
func (u *upward) resolve(ctx context.Context) ([]netip.AddrPort, error) {
	found := make([]netip.AddrPort, len(u.file.Peers))
	last := openLastGood(lastGoodDir, u.file.Name)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i, p := range u.file.Peers {
		if p.Endpoint == "" {
			continue
		}
		g.Go(func() error {
			said := time.AfterFunc(resolvePatience, func() {
				u.log.Warn("no answer for the name of an endpoint yet, still trying "+resolutionLimit(), "peer", p.Title(), "endpoint", p.Endpoint)
			})
			defer said.Stop()
			a, err := conf.ResolveEndpoint(gctx, u.lookups.lookup, p.Endpoint)
			if err != nil {
				err = fmt.Errorf("%s:%d: peer %s: %w", u.file.Path, p.Line, p.Title(), err)
				if unknown := (*net.DNSError)(nil); errors.As(err, &unknown) && unknown.IsNotFound {
					return err
				}
				if good, known := last.found[p.Endpoint]; known && gctx.Err() == nil {
					u.log.Warn("the name of an endpoint can't be resolved; the address where it was last is taken", "peer", p.Title(),
						"endpoint", p.Endpoint, "address", good, "error", err)
					found[i] = good
					return nil
				}
				return withHint(err, "an address needs no name server; WG_ENDPOINT_RESOLUTION_RETRIES=infinity in the environment waits for one for ever")
			}
			found[i] = a
			return nil
		})
	}
	err := g.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err == nil {
		if keepErr := last.keep(u.file.Peers, found); keepErr != nil {
			u.log.Debug("the addresses of endpoints are not kept for another time", "error", keepErr)
		}
	}
	return found, err
}

// resolutionLimit says how long a name is tried for. One name that stays unknown keeps the whole tunnel from coming up, as
// with wg-quick(8).
func resolutionLimit() string {
	limit := conf.ResolutionTime()
	if limit < 0 {
		return "for ever"
	}
	return fmt.Sprintf("for %d s or a little more; then the tunnel does not come up", int(limit.Round(time.Second).Seconds()))
}

// endpoints are where packets will go, a hook's peers included.
func (u *upward) endpoints() []netip.Addr {
	var addrs []netip.Addr
	for _, p := range u.tunnel.engine.Status().Peers {
		if p.Endpoint.IsValid() {
			addrs = append(addrs, p.Endpoint.Addr())
		}
	}
	return addrs
}
