package netconf

import "errors"

// Step is one change to the machine that a tunnel needs: an address, a rule, a table of nftables, a sysctl. A [Journal]
// takes it, and takes it back, if need be in another process: so all that Undo needs is in exported fields, which the
// journal keeps as JSON, and none of it is a secret.
//
// A Step is a pointer to a struct that is listed in kinds.
type Step interface {
	// String says what the step makes, as check and the log tell it: "address 10.9.0.1/24".
	String() string
	// Look notes what is there before. done: all is as the step would have it; it is not ours then, and neither Make nor
	// Undo is called. It changes nothing.
	Look(h *Handle) (done bool, err error)
	// Make makes the change. Where it fails half way, Undo is called as if it had not.
	Make(h *Handle) error
	// Undo takes the change back by what Look has noted, and is right after a whole Make, half a one or none. What has gone
	// already is no error. What somebody else has changed since stays as he wants it.
	Undo(h *Handle) error
}

// kinds are all steps there are, by the name that the journal gives them.
var kinds = map[string]func() Step{
	"dns":         func() Step { return new(DNS) },
	"address":     func() Step { return new(Address) },
	"mtu":         func() Step { return new(MTU) },
	"up":          func() Step { return new(Up) },
	"routes":      func() Step { return new(Routes) },
	"rule":        func() Step { return new(Rule) },
	"mark":        func() Step { return new(Mark) },
	"mark table":  func() Step { return new(MarkTable) },
	"sysctl":      func() Step { return new(Sysctl) },
	"kill switch": func() Step { return new(KillSwitch) },
	"gateway":     func() Step { return new(Gateway) },
	"guard":       func() Step { return new(Guard) },
	"passage":     func() Step { return new(Passage) },
	"ipv6 router": func() Step { return new(RouterIPv6) },
	"mac":         func() Step { return new(MAC) },
	"bridge":      func() Step { return new(Bridge) },
	"port":        func() Step { return new(BridgePort) },
}

// Apply takes a step that no journal keeps. Its Undo is the caller's to call, if he wants it back. When it fails it has been
// taken back.
func (h *Handle) Apply(s Step) error {
	if done, err := s.Look(h); done || err != nil {
		return err
	}
	if err := s.Make(h); err != nil {
		return errors.Join(err, s.Undo(h))
	}
	return nil
}
