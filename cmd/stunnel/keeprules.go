package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"stunnel/device/netconf"
)

// keepRules sees to it, while the tunnel runs, that its rules do what they did when it came up: those that others remove are put
// back (`wg-quick down` removes all that look like its own), and what tunnels of other programs seal that come up later is
// exempted. The same of its nft tables, a kill switch above all, which go with all others when a firewall is loaded anew, and
// of addresses and routes, which go when somebody sets the link down. And a gateway's outer interfaces may come anew, or be
// others. Nobody else uses the journal until letRulesGo.
func (u *upward) keepRules() error {
	ctx, stop := context.WithCancel(context.Background())
	var keeping sync.WaitGroup
	u.letRulesGo = func() { stop(); keeping.Wait() }
	var one sync.Mutex // mends at a time: they share the journal and the tables
	keep := func(listen func() (*netconf.Changes, error), mend func(context.Context)) error {
		changes, err := listen()
		if err != nil {
			return err
		}
		mendOne := func() {
			one.Lock()
			defer one.Unlock()
			mend(ctx)
		}
		keeping.Go(func() {
			mendOne() // what has happened since they were made
			if err := changes.Follow(ctx, mendOne); err != nil {
				u.log.Error("the rules of this tunnel are not watched any more", "error", err)
			}
		})
		return nil
	}
	keeping.Go(func() {
		for {
			select {
			case <-u.tunnel.upped:
				one.Lock()
				u.mendWays()
				one.Unlock()
			case <-ctx.Done():
				return
			}
		}
	})
	if len(u.rules)+len(u.tables) == 0 {
		return nil
	}
	if err := errors.Join(keep(netconf.RuleChanges, u.mendRules), keep(netconf.TableChanges, u.mendTables)); err != nil {
		return err
	}
	if u.guard == nil {
		return nil
	}
	return keep(netconf.WayChanges, u.followOuter)
}

func (u *upward) mendWays() {
	restored, err := u.net.RestoreWays(u.journal.Steps())
	for _, s := range restored {
		u.log.Warn(fmt.Sprintf("somebody has set the interface down and up again; put back: %s", s))
	}
	if err != nil {
		u.log.Error("addresses and routes of this tunnel are not as they should be", "error", err)
	}
}

func (u *upward) mendTables(context.Context) {
	restored, err := u.net.RestoreTables(u.tables)
	for _, t := range restored {
		u.log.Warn(fmt.Sprintf("somebody has removed this tunnel's nft table inet %s, which is put back", t.Table()))
	}
	if err != nil {
		u.log.Error("the nft tables of this tunnel are not as they should be", "error", err)
	}
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
