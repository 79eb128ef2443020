package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"stunnel/cmd/internal/conf"
	"stunnel/crypto"
)

// names keeps the addresses of endpoints that have names. Each name is asked for at the start, and again only while it is
// missed: when a peer does not answer at the addresses that are known, or when none are. A session that works is left alone,
// and an idle tunnel asks nothing.
//
// One goroutine at a time owns the state, that of first and then that of run: it hears of silent peers, of changes of the
// network and of answers.
type names struct {
	file *conf.File
	log  *slog.Logger
	ask  func(ctx context.Context, network, host string) ([]netip.Addr, time.Duration, error) // the duration is how long that is so; 0: not known
	tell func(peer int, w whereabouts)                                                        // where file.Peers[peer] may be now
	last *lastGood

	silent  chan crypto.PublicKey
	changed chan struct{}
	answers chan answer
	slots   chan struct{} // bounds the questions under way

	// owned
	hosts   map[string]*name
	silence []time.Time   // of file.Peers[i]: when it did not answer
	told    []whereabouts // what is known elsewhere of file.Peers[i]
}

// name is one of them.
type name struct {
	host     string
	addrs    []netip.Addr // nil: none was found yet
	kept     []netip.Addr // where it was last time, as long as there are no addrs
	err      error        // of the last question
	asking   bool
	wanted   bool
	asked    time.Time // when the last question began
	fresh    time.Time // until then the answer is good enough
	failures int       // one after the other
}

// known are its addresses, or else where it was last time.
func (h *name) known() []netip.Addr {
	if h.addrs == nil {
		return h.kept
	}
	return h.addrs
}

type answer struct {
	name  *name
	addrs []netip.Addr
	ttl   time.Duration
	err   error
}

// When a name is asked for again.
const (
	leastAge   = 5 * time.Second // however short the life of an answer is
	mostAge    = 3 * time.Minute // however long it is, while a peer is silent there
	longRetry  = time.Minute     // while nothing is known of the name at all
	lookupTime = 20 * time.Second
	// An unanswered handshake is repeated after 5 s; of a peer that was not missed for so long something new begins.
	missedFor = 15 * time.Second
	// namesPatience is how long the way up waits for names.
	namesPatience = 2 * time.Second

	mostQuestions  = 16 // at a time
	mostCandidates = 32 // of one peer, for UDP and for TCP each
)

func newNames(f *conf.File, log *slog.Logger, last *lastGood, ask func(context.Context, string, string) ([]netip.Addr, time.Duration, error)) *names {
	n := &names{
		file: f, log: log, ask: ask, last: last, hosts: make(map[string]*name), silence: make([]time.Time, len(f.Peers)),
		silent: make(chan crypto.PublicKey, 64), changed: make(chan struct{}, 1), answers: make(chan answer),
		slots: make(chan struct{}, mostQuestions), told: make([]whereabouts, len(f.Peers)),
	}
	for i := range f.Peers {
		for host := range hostsOf(&f.Peers[i]) {
			if n.hosts[host] == nil {
				n.hosts[host] = &name{host: host, wanted: true, kept: last.found[host]}
			}
		}
	}
	return n
}

// hostsOf yields the names of p's endpoints.
func hostsOf(p *conf.Peer) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, e := range slices.Concat(p.Endpoints, p.EndpointsTCP) {
			host, _ := conf.SplitEndpoint(e)
			if _, err := netip.ParseAddr(host); err != nil && !yield(host) {
				return
			}
		}
	}
}

// unanswered hears that a peer does not answer. It never waits: who is still missed is told again.
func (n *names) unanswered(peer crypto.PublicKey) {
	select {
	case n.silent <- peer:
	default:
	}
}

// networkChanged hears that what failed may work now.
func (n *names) networkChanged() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// first asks for all names, and waits for the answers, but not for ever: a name that nobody knows yet does not keep the
// tunnel from coming up. It returns where file.Peers[i] may be; run then goes on. ctx is that of run.
func (n *names) first(ctx context.Context) ([]whereabouts, error) {
	patience := time.NewTimer(namesPatience)
	defer patience.Stop()
	for impatient := false; !impatient && !n.allAsked(); {
		n.askDue(ctx, time.Now())
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case a := <-n.answers:
			n.take(a, time.Now())
		case <-patience.C:
			impatient = true
		}
	}
	for _, h := range n.hosts {
		if h.asking {
			n.log.Warn("no answer for the name of an endpoint yet; the tunnel comes up all the same", "name", h.host)
		}
	}
	if err := n.unknown(); err != nil {
		return nil, err
	}
	n.keep()
	for i := range n.told {
		n.told[i] = n.whereabouts(i)
	}
	return slices.Clone(n.told), nil
}

// run asks and tells until ctx ends.
func (n *names) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		n.tellAll()
		timer.Reset(n.askDue(ctx, time.Now()))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case key := <-n.silent:
			n.missPeer(key, time.Now())
		case <-n.changed:
			n.missAll()
		case a := <-n.answers:
			n.take(a, time.Now())
		}
	}
}

// askDue asks for what is due, and says how long nothing else is.
func (n *names) askDue(ctx context.Context, now time.Time) time.Duration {
	const idle = 1000 * time.Hour
	rest := idle
	for _, h := range n.hosts {
		if h.asking || !h.wanted {
			continue
		}
		if wait := n.due(h).Sub(now); wait > 0 {
			rest = min(rest, wait)
			continue
		}
		if h.addrs != nil && !n.missed(h, now) {
			h.wanted = false
			continue
		}
		h.asking, h.wanted, h.asked = true, false, now
		go n.question(ctx, h)
	}
	return rest
}

// due is when a name that is wanted may be asked for.
func (n *names) due(h *name) time.Time {
	if h.asked.IsZero() {
		return h.asked
	}
	due := h.asked.Add(leastAge)
	if h.addrs == nil && h.kept == nil && h.failures > 0 {
		due = h.asked.Add(min(leastAge<<min(h.failures-1, 10), longRetry))
	}
	if h.fresh.After(due) {
		return h.fresh
	}
	return due
}

// missed says whether a peer that the name is of was silent a moment ago.
func (n *names) missed(h *name, now time.Time) bool {
	for i := range n.file.Peers {
		if now.Sub(n.silence[i]) > missedFor {
			continue
		}
		for host := range hostsOf(&n.file.Peers[i]) {
			if host == h.host {
				return true
			}
		}
	}
	return false
}

// question asks for a name and hands the answer to run.
func (n *names) question(ctx context.Context, h *name) {
	select {
	case n.slots <- struct{}{}:
		defer func() { <-n.slots }()
	case <-ctx.Done():
		return
	}
	asking, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	a := answer{name: h}
	a.addrs, a.ttl, a.err = n.ask(asking, "ip", h.host)
	if a.err == nil && len(a.addrs) == 0 {
		a.err = errors.New("the name has no address")
	}
	select {
	case n.answers <- a:
	case <-ctx.Done():
	}
}

// missPeer wants the names of a peer that does not answer: at once if it was not missed before, then as often as answers
// grow old.
func (n *names) missPeer(key crypto.PublicKey, now time.Time) {
	i := slices.IndexFunc(n.file.Peers, func(p conf.Peer) bool { return p.PublicKey == key })
	if i < 0 {
		return // one of a hook's
	}
	again := now.Sub(n.silence[i]) <= missedFor
	n.silence[i] = now
	for host := range hostsOf(&n.file.Peers[i]) {
		h := n.hosts[host]
		h.wanted = true
		if !again {
			h.fresh = time.Time{}
		}
	}
}

// missAll: in another network, or after a rest, old answers count for nothing, nor do failures.
func (n *names) missAll() {
	for _, h := range n.hosts {
		h.fresh, h.failures = time.Time{}, min(h.failures, 1)
		if h.addrs == nil {
			h.wanted = true
		}
	}
}

// take takes an answer.
func (n *names) take(a answer, now time.Time) {
	h := a.name
	before := h.known()
	h.asking, h.err = false, a.err
	if a.err != nil {
		h.failures++
		h.wanted = h.wanted || n.lost(h)
		n.tellFailure(h)
	} else {
		for i, x := range a.addrs {
			a.addrs[i] = x.Unmap()
		}
		h.addrs, h.failures = a.addrs, 0
		h.fresh = h.asked.Add(max(leastAge, min(a.ttl, mostAge)))
		if a.ttl == 0 {
			h.fresh = h.asked.Add(mostAge)
		}
		moved := len(before) > 0 && !slices.ContainsFunc(a.addrs, func(x netip.Addr) bool { return slices.Contains(before, x) })
		if moved {
			n.log.Info("the name of an endpoint has moved", "name", h.host, "from", strings.Join(texts(before), ", "), "to", strings.Join(texts(a.addrs), ", "))
		}
		n.keep()
	}
}

// lost says whether there is a peer that may be nowhere as long as the name is not known.
func (n *names) lost(h *name) bool {
	for i := range n.file.Peers {
		for host := range hostsOf(&n.file.Peers[i]) {
			if w := n.whereabouts(i); host == h.host && len(w.udp)+len(w.tcp) == 0 {
				return true
			}
		}
	}
	return false
}

// tellFailure tells the first one of several.
func (n *names) tellFailure(h *name) {
	switch {
	case h.failures > 1:
		n.log.Debug("the name of an endpoint still can't be resolved", "name", h.host, "error", h.err)
	case h.addrs != nil:
		n.log.Warn("the name of an endpoint can't be resolved any more; its addresses stay as they were", "name", h.host, "error", h.err)
	case h.kept != nil:
		n.log.Warn("the name of an endpoint can't be resolved; the address where it was last is taken", "name", h.host, "address", strings.Join(texts(h.kept), ", "), "error", h.err)
	default:
		n.log.Warn("the name of an endpoint can't be resolved; it is asked for again and again", "name", h.host, "error", h.err)
	}
}

func (n *names) keep() {
	now := make(map[string][]netip.Addr)
	for _, h := range n.hosts {
		now[h.host] = h.known()
	}
	if err := n.last.keep(now); err != nil {
		n.log.Debug("the addresses of endpoints are not kept for another time", "error", err)
	}
}

func (n *names) allAsked() bool {
	for _, h := range n.hosts {
		if h.addrs == nil && h.err == nil {
			return false
		}
	}
	return true
}

// whereabouts are those of file.Peers[i], as far as they are known.
func (n *names) whereabouts(i int) whereabouts {
	p := &n.file.Peers[i]
	return whereabouts{n.addresses(p.Endpoints), n.addresses(p.EndpointsTCP)}
}

func (n *names) addresses(endpoints []string) (all []netip.AddrPort) {
	add := func(a netip.Addr, port uint16) {
		if to := netip.AddrPortFrom(a, port); !slices.Contains(all, to) && len(all) < mostCandidates {
			all = append(all, to)
		}
	}
	for _, e := range endpoints {
		host, port := conf.SplitEndpoint(e)
		if a, err := netip.ParseAddr(host); err == nil {
			add(a.Unmap(), port)
			continue
		}
		h := n.hosts[host]
		for _, a := range h.known() {
			add(a, port)
		}
	}
	return all
}

// tellAll tells where peers may be that may be elsewhere than they were told to be.
func (n *names) tellAll() {
	for i := range n.told {
		w := n.whereabouts(i)
		if slices.Equal(w.udp, n.told[i].udp) && slices.Equal(w.tcp, n.told[i].tcp) {
			continue
		}
		n.told[i] = w
		n.tell(i, w)
	}
}

// unknown is why the tunnel cannot come up: a peer all of whose endpoints are names that nobody has ever had.
func (n *names) unknown() error {
	for i := range n.file.Peers {
		p := &n.file.Peers[i]
		w := n.whereabouts(i)
		if len(p.Endpoints)+len(p.EndpointsTCP) == 0 || len(w.udp)+len(w.tcp) > 0 {
			continue
		}
		var missing error
		for host := range hostsOf(p) {
			var dns *net.DNSError
			if err := n.hosts[host].err; !errors.As(err, &dns) || !dns.IsNotFound {
				missing = nil
				break
			} else if missing == nil {
				missing = err
			}
		}
		if missing != nil {
			return fmt.Errorf("%s:%d: peer %s: cannot resolve the endpoint: %w", n.file.Path, p.Line, p.Title(), missing)
		}
	}
	return nil
}
