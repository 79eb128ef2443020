package netconf

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Changes are the kernel's messages about rules, routes or tables of nftables, since it was made.
type Changes struct {
	socket *nl.NetlinkSocket
	wanted []uint16 // types of messages that matter
}

// RuleChanges tells of rules that come and go, in the network namespace of the calling thread.
func RuleChanges() (*Changes, error) {
	return changes([]uint16{unix.RTM_NEWRULE, unix.RTM_DELRULE}, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE)
}

// WayChanges tells of everything that may change the way of packets or the address that they have, in the network namespace of
// the calling thread.
func WayChanges() (*Changes, error) {
	return changes([]uint16{unix.RTM_NEWRULE, unix.RTM_DELRULE, unix.RTM_NEWROUTE, unix.RTM_DELROUTE,
		unix.RTM_NEWADDR, unix.RTM_DELADDR, unix.RTM_NEWLINK, unix.RTM_DELLINK},
		unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_LINK)
}

// TableChanges tells of tables of nftables that go, in the network namespace of the calling thread.
func TableChanges() (*Changes, error) {
	return subscribe(unix.NETLINK_NETFILTER, []uint16{unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELTABLE}, unix.NFNLGRP_NFTABLES)
}

func changes(wanted []uint16, groups ...uint) (*Changes, error) {
	return subscribe(unix.NETLINK_ROUTE, wanted, groups...)
}

func subscribe(protocol int, wanted []uint16, groups ...uint) (*Changes, error) {
	s, err := nl.Subscribe(protocol, groups...)
	if err != nil {
		return nil, fmt.Errorf("listen for changes of rules, routes or tables: %w", err)
	}
	return &Changes{s, wanted}, nil
}

// Close ends what waits.
func (c *Changes) Close() { c.socket.Close() }

// A router may have thousands of changes in a second. For calm after each nothing is done, and longer where much has to be done:
// rest times as long as that took.
const (
	calm = 50 * time.Millisecond
	rest = 20
)

// Follow calls changed after each change, or a few of them, until ctx ends, and closes c. It returns nil then.
func (c *Changes) Follow(ctx context.Context, changed func()) error {
	defer context.AfterFunc(ctx, c.Close)()
	for {
		if err := c.wait(); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		begin := time.Now()
		changed()
		select {
		case <-time.After(max(calm, rest*time.Since(begin))):
		case <-ctx.Done():
			return nil
		}
	}
}

// wait returns after a change, or when messages were lost: perhaps one was.
func (c *Changes) wait() error {
	for {
		messages, _, err := c.socket.Receive()
		if errors.Is(err, unix.ENOBUFS) {
			return nil
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		for _, m := range messages {
			for _, w := range c.wanted {
				if m.Header.Type == w {
					return nil
				}
			}
		}
	}
}

// RestoreWays puts those addresses and routes of the steps back that are gone, and tells which: with a link that is set down
// the kernel drops all its routes, and its addresses of IPv6. The steps themselves stay as they are.
func (h *Handle) RestoreWays(steps []Step) (restored []Step, err error) {
	var errs []error
	for _, s := range steps {
		var again Step
		switch s := s.(type) {
		case *Address:
			a := *s
			again = &a
		case *Routes:
			r := *s
			r.Prefixes = s.Added
			again = &r
		default:
			continue
		}
		done, err := again.Look(h)
		if err == nil && !done {
			err = again.Make(h)
			restored = append(restored, again)
		}
		errs = append(errs, err)
	}
	return restored, errors.Join(errs...)
}

// Restore puts those of the rules back that somebody has removed, and tells which: `wg-quick down` takes away all that look like
// its own, those of other tunnels too.
func (h *Handle) Restore(rules []*Rule) (restored []*Rule, err error) {
	var errs []error
	for _, r := range rules {
		if done, err := r.Look(h); done || errors.Is(err, unix.EEXIST) {
			continue
		}
		switch err := r.Make(h); {
		case err == nil:
			restored = append(restored, r)
		case !errors.Is(err, unix.EEXIST):
			errs = append(errs, err)
		}
	}
	return restored, errors.Join(errs...)
}
