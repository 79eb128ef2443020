package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

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

// leastIPv6MTU is the least MTU of an interface that carries IPv6 (RFC 8200, section 5).
const leastIPv6MTU = 1280

// mtu is the file's, or wg-quick's choice. But below 1280 the kernel would take all IPv6 off the interface again, and say
// nothing: where there is IPv6, packets that are cut up outside are better than that.
func (u *upward) mtu() int {
	if u.file.Interface.Ethernet {
		return u.tapMTU()
	}
	if u.file.Interface.MTU != 0 {
		return u.file.Interface.MTU
	}
	mtu := u.net.DefaultMTU(u.endpoints(), u.tunnel.engine.Status().FwMark)
	if mtu < leastIPv6MTU && u.hasIPv6() {
		u.log.Warn(fmt.Sprintf("the way to the endpoints has room for an MTU of %d only, and IPv6 needs %d: packets will be fragmented outside", mtu, leastIPv6MTU))
		return leastIPv6MTU
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
		key := "ListenPort"
		if u.file.Interface.ListenTCP != 0 {
			key += " or ListenTCP, whichever it is"
		}
		return withHint(err, "another program has it: stunnel doctor "+u.file.Path+" tells which; or choose another "+key)
	}
	if err == nil {
		s := u.tunnel.engine.Status()
		u.log.Info(fmt.Sprintf("listening on UDP port %d", s.ListenPort))
		if s.ListenTCP != 0 {
			u.log.Info(fmt.Sprintf("listening on TCP port %d", s.ListenTCP))
		}
	}
	return err
}

// configure gives the engine what the file says, the names of endpoints resolved as far as they can be.
func (u *upward) configure() error {
	u.lookups = newLookups(u.file, u.tunnel.engine)
	found, start, err := u.find()
	if err != nil {
		return err
	}
	defer start()
	spoke := openSpokeTCP(lastGoodDir, u.file.Name)
	u.tunnel.spoke.Store(spoke)
	if err := u.tunnel.Configure(engineConfig(u.file, found, spoke)); err != nil {
		return fmt.Errorf("%s: %w", u.file.Path, err)
	}
	for i := range u.file.Peers {
		if p := &u.file.Peers[i]; p.Transport == nil && p.TransportOf(spoke.has(p.PublicKey)) == transport.TransportUDP {
			u.tunnel.advice.watch(p.PublicKey, p.Title())
		}
	}
	own := u.tunnel.Status().PublicKey // perhaps set by a hook
	for _, p := range u.file.Peers {
		if p.PublicKey == own {
			u.tunnel.warnOfOwnKey(p.Name, own)
		}
	}
	return nil
}

// engineConfig is f as the engine takes it; found[i] is where f.Peers[i] may be.
func engineConfig(f *conf.File, found []whereabouts, spoke *spokeTCP) transport.Config {
	in := &f.Interface
	c := transport.Config{PrivateKey: in.PrivateKey, ListenPort: in.ListenPort, ListenTCP: &in.ListenTCP, FwMark: in.FwMark, TrustedChecksums: &in.TrustedChecksums}
	configureSwitch(&c, in)
	for i := range f.Peers {
		p := &f.Peers[i]
		carrier := p.TransportOf(spoke.has(p.PublicKey))
		pc := transport.PeerConfig{PublicKey: p.PublicKey, PresharedKey: p.PresharedKey, PersistentKeepalive: &p.PersistentKeepalive,
			Extensions: &p.Extensions, Transport: &carrier}
		if len(p.MACs) > 0 {
			pc.MACs = &p.MACs
		}
		if p.Name != "" {
			pc.Name = &p.Name
		}
		if udp := found[i].udp; len(udp) > 0 {
			pc.Endpoint, pc.Endpoints = &udp[0], &udp
		}
		if tcp := found[i].tcp; len(tcp) > 0 {
			pc.EndpointsTCP = &tcp
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

// endpoints are where packets will go or may, a hook's peers included.
func (u *upward) endpoints() []netip.Addr {
	var addrs []netip.Addr
	for _, p := range u.tunnel.engine.Status().Peers {
		for _, e := range candidates(&p) {
			addrs = append(addrs, e.Addr())
		}
	}
	return addrs
}
