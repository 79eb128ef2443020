package main

import (
	"context"
)

// sourceRules lead what is sent from the interface's addresses into its table, with Table = N: what a program has bound to
// them, and answers to what came through the tunnel.
func (p *plan) sourceRules() {
	in := &p.file.Interface
	if !in.SourceRules {
		return
	}
	for _, a := range in.Address {
		p.tell("rule", "before all others, from %s: by table %d", a.Addr(), in.Table.Number)
	}
	p.do(func(ctx context.Context, u *upward) error {
		rules, err := u.net.SourceRules(in.Address, in.Table.Number)
		if err != nil {
			return err
		}
		for _, r := range rules {
			if err := u.step(ctx, r); err != nil {
				return err
			}
		}
		return nil
	})
}
