package main

import (
	"context"
	"fmt"

	"stunnel/cmd/internal/conf"
	"stunnel/device/netconf"
)

// plan is what `up` does with a file, step by step. It is made of the file alone and changes nothing, so check tells it and up
// takes it. What a step needs to know of the machine it finds out when it is taken.
//
// Each phase is a method that appends its steps. On the way down the journal goes back what they have changed, in reverse.
type plan struct {
	file  *conf.File
	steps []planStep
}

// planStep is a line that check tells, something that up does, or both.
type planStep struct {
	kind, text string // what check tells; kind "": nothing
	down       bool   // it belongs to the way down
	take       func(ctx context.Context, u *upward) error
}

// newPlan has the order of everything. It is wg-quick(8)'s, hooks included.
func newPlan(f *conf.File) *plan {
	p := &plan{file: f}
	p.killSwitch()
	if f.Interface.Ethernet {
		p.tell("interface", "%s, a TAP: it carries Ethernet frames", f.Name)
	} else {
		p.tell("interface", "%s", f.Name)
	}
	p.hook("PreUp", f.Interface.PreUp)
	p.engine()
	if f.Interface.Ethernet { // frames go by MAC address, and need no routes
		p.tap()
		p.addresses()
		p.mtu()
		p.gateway()
		p.bridgePort()
		p.link()
	} else {
		p.mark()
		p.addresses()
		p.mtu()
		p.gateway()
		p.answers()
		p.link()
		p.separateRoutes()
		p.routes()
		p.sourceRules()
	}
	p.dns()
	p.forward()
	p.hook("PostUp", f.Interface.PostUp)
	p.ready()
	p.hookDown("PreDown", f.Interface.PreDown)
	p.hookDown("PostDown", f.Interface.PostDown)
	return p
}

// tell appends a line for check.
func (p *plan) tell(kind, format string, args ...any) {
	p.steps = append(p.steps, planStep{kind: kind, text: fmt.Sprintf(format, args...)})
}

// do appends something that up does and check has been told of, or need not be.
func (p *plan) do(take func(ctx context.Context, u *upward) error) {
	p.steps = append(p.steps, planStep{take: take})
}

// hook appends the commands of one kind, a step each.
func (p *plan) hook(kind string, commands []string) {
	for _, command := range commands {
		p.tell(kind, "%s", hideKeys(command, p.file))
		p.do(func(ctx context.Context, u *upward) error { return u.hooks.run(ctx, kind, []string{command}) })
	}
}

func (p *plan) hookDown(kind string, commands []string) {
	for _, command := range commands {
		p.steps = append(p.steps, planStep{kind: kind, text: hideKeys(command, p.file), down: true})
	}
}

// engine gives the keys and the peers to the engine.
func (p *plan) engine() {
	in := &p.file.Interface
	switch {
	case in.PrivateKey != nil:
		p.tell("key", "%s (public)", in.PrivateKey.Public())
	default:
		p.tell("key", "none here; a hook has to set it")
	}
	where := listeningText(in)
	if in.ListenPort != nil && *in.ListenPort != 0 {
		p.tell("listen", "UDP port %d%s", *in.ListenPort, where)
	} else {
		p.tell("listen", "a UDP port that the kernel chooses%s", where)
	}
	if in.ListenTCP != 0 {
		p.tell("listen", "TCP port %d%s", in.ListenTCP, where)
	}
	if in.FwMark != nil && *in.FwMark != 0 {
		p.tell("fwmark", "0x%x", *in.FwMark)
	}
	for i := range p.file.Peers {
		p.tell("peer", "%s", describePeer(&p.file.Peers[i]))
	}
	p.do(func(_ context.Context, u *upward) error { return u.configure() })
}

// listeningText says at which addresses and by which interface the ports are reached, if not by all.
func listeningText(in *conf.Interface) (text string) {
	if in.ListenAddress.IsValid() {
		text = " of " + in.ListenAddress.String() + " alone"
	}
	if in.BindDevice != "" {
		text += ", by " + in.BindDevice + " alone"
	}
	return text
}

func (p *plan) addresses() {
	for _, a := range p.file.Interface.Address {
		if bridge := p.file.Interface.Bridge; bridge != "" {
			p.tell("address", "%s, of %s", a, bridge)
		} else {
			p.tell("address", "%s", a)
		}
		p.do(func(ctx context.Context, u *upward) error {
			return u.step(ctx, &netconf.Address{Interface: p.addressed(), Prefix: a})
		})
	}
}

func (p *plan) mtu() {
	switch in := &p.file.Interface; {
	case in.MTU != 0:
		p.tell("mtu", "%d", in.MTU)
	case in.Bridge != "":
		p.tell("mtu", "chosen at the start: that of %s, or %d", in.Bridge, defaultTapMTU)
	case in.Ethernet:
		p.tell("mtu", "%d", defaultTapMTU)
	default:
		p.tell("mtu", "chosen at the start: that of the way to the peers, less 80 (usually 1420); then what their paths carry, where that is measured")
	}
	p.do(func(ctx context.Context, u *upward) error {
		mtu := u.mtu()
		if err := u.step(ctx, &netconf.MTU{Interface: u.file.Name, Bytes: mtu}); err != nil {
			return err
		}
		if in := &u.file.Interface; in.MTU == 0 && !in.Ethernet {
			u.followMTU(mtu)
		}
		return nil
	})
}

// link opens the sockets and sets the interface up.
func (p *plan) link() {
	in := &p.file.Interface
	if !in.Offload {
		p.tell("offload", "none: the kernel hands over every packet singly")
	}
	if !in.TrustedChecksums {
		p.tell("checksums", "computed and verified for every packet, also between two stunnels")
	}
	for _, text := range describeSwitch(in) {
		p.tell("switch", "%s", text)
	}
	if in.Lanes != 0 {
		p.tell("lanes", "%d", in.Lanes)
	}
	// Before the link is up: when the port is taken the error belongs to us, not to the one who watches the link.
	p.do(func(_ context.Context, u *upward) error { return u.engineUp() })
	p.do(func(ctx context.Context, u *upward) error { return u.step(ctx, &netconf.Up{Interface: u.file.Name}) })
}

// ready looks at what only the whole of it shows, and tells who waits.
func (p *plan) ready() {
	p.do(func(ctx context.Context, u *upward) error { return u.ready(ctx) })
}
