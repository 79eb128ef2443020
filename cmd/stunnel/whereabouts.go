package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"stunnel/cmd/internal/conf"
	"stunnel/transport"
)

// whereabouts are the addresses at which a peer may be, in the order in which they are to be tried.
type whereabouts struct{ udp, tcp []netip.AddrPort }

// candidates are all addresses at which p may be: where packets go now, and what was configured.
func candidates(p *transport.PeerStatus) []netip.AddrPort {
	var all []netip.AddrPort
	if p.Endpoint.IsValid() {
		all = append(all, p.Endpoint)
	}
	for _, e := range slices.Concat(p.Endpoints, p.EndpointsTCP) {
		if !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	return all
}

// resolvePatience is how long a resolver may take before we say what we wait for.
const resolvePatience = 2 * time.Second

// resolve finds the addresses of all endpoints at the same time; found[i] are those of peer i.
func (u *upward) resolve(ctx context.Context) (found []whereabouts, err error) {
	last := openLastGood(lastGoodDir, u.file.Name)
	now := make(map[string][]netip.AddrPort)
	var guard sync.Mutex // of now
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := range u.file.Peers {
		p := &u.file.Peers[i]
		for _, endpoint := range slices.Concat(p.Endpoints, p.EndpointsTCP) {
			g.Go(func() error {
				addrs, err := u.resolveOne(gctx, p, endpoint, last)
				guard.Lock()
				defer guard.Unlock()
				now[endpoint] = addrs
				return err
			})
		}
	}
	err = g.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	if err := last.keep(now); err != nil {
		u.log.Debug("the addresses of endpoints are not kept for another time", "error", err)
	}
	for _, p := range u.file.Peers {
		var w whereabouts
		for _, endpoint := range p.Endpoints {
			w.udp = append(w.udp, now[endpoint]...)
		}
		for _, endpoint := range p.EndpointsTCP {
			w.tcp = append(w.tcp, now[endpoint]...)
		}
		found = append(found, w)
	}
	return found, nil
}

func (u *upward) resolveOne(ctx context.Context, p *conf.Peer, endpoint string, last *lastGood) ([]netip.AddrPort, error) {
	said := time.AfterFunc(resolvePatience, func() {
		u.log.Warn("no answer for the name of an endpoint yet, still trying "+resolutionLimit(), "peer", p.Title(), "endpoint", endpoint)
	})
	defer said.Stop()
	addrs, err := conf.ResolveEndpoint(ctx, u.lookups.lookup, endpoint)
	if err == nil {
		return addrs, nil
	}
	err = fmt.Errorf("%s:%d: peer %s: %w", u.file.Path, p.Line, p.Title(), err)
	if unknown := (*net.DNSError)(nil); errors.As(err, &unknown) && unknown.IsNotFound {
		return nil, err
	}
	if good := last.found[endpoint]; len(good) > 0 && ctx.Err() == nil {
		u.log.Warn("the name of an endpoint can't be resolved; the address where it was last is taken", "peer", p.Title(),
			"endpoint", endpoint, "address", good[0], "error", err)
		return good, nil
	}
	return nil, withHint(err, "an address needs no name server; WG_ENDPOINT_RESOLUTION_RETRIES=infinity in the environment waits for one for ever")
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
