package main

import (
	"context"
	"errors"
	"fmt"

	"stunnel/device/netconf"
)

// keepRules sees to it, while the tunnel runs, that its rules do what they did when it came up: those that others remove are put
// back (`wg-quick down` removes all that look like its own), and what tunnels of other programs seal that come up later is
// exempted. Nobody else uses the journal until letRulesGo.
func (u *upward) keepRules() error {
	if len(u.rules) == 0 {
		return nil
	}
	changes, err := netconf.RuleChanges()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		u.mendRules(ctx) // what has happened since they were made
		if err := changes.Follow(ctx, func() { u.mendRules(ctx) }); err != nil {
			u.log.Error("the rules of this tunnel are not watched any more", "error", err)
		}
	}()
	u.letRulesGo = func() { stop(); <-ended }
	return nil
}

func (u *upward) mendRules(ctx context.Context) {
	restored, err := u.net.Restore(u.rules)
	for _, r := range restored {
		u.log.Warn(fmt.Sprintf("somebody has removed a rule of this tunnel, which is put back: %s", r))
	}
	lacking, listed := u.net.Exemptions(u.rules)
	for _, r := range lacking {
		if err = errors.Join(err, u.rule(ctx, r)); err == nil {
			u.log.Info("a tunnel of another program is beside this one; its packets do not go through this one", "mark", fmt.Sprintf("0x%x", r.Mark))
		}
	}
	if err = errors.Join(err, listed); err != nil && ctx.Err() == nil {
		u.log.Error("the rules of this tunnel are not as they should be", "error", err)
	}
}
