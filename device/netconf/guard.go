package netconf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const guardTable = "/guard"

// Guard keeps hosts on the links of a gateway's outer interfaces, whose packets are forwarded for the sake of answers, from
// opening connections: into the tunnel in any case, and to wherever else this host has routes unless the interface has
// forwarded without us. Answers pass, and what a rule of the user's has sent on (DNAT).
//
// What the user lets in beside that he writes into the chain "allow", which is left as it is until the table goes.
type Guard struct {
	Interface string
	Outer     []string
}

func (g *Guard) String() string {
	return fmt.Sprintf("guard: connections that begin behind %s do not get into %s, nor through this host where it was no router (nftables: table inet %s)",
		strings.Join(g.Outer, ", "), g.Interface, g.Table())
}

// Table is the table's name.
func (g *Guard) Table() string { return ourTables + g.Interface + guardTable }

// Look is never done: a table that is there may be one of an earlier tunnel, and is replaced.
func (g *Guard) Look(*Handle) (done bool, err error) { return false, nil }

func (g *Guard) Make(h *Handle) error {
	t, err := h.newTable(g.Table())
	if err != nil {
		return err
	}
	return g.write(h, t)
}

// Renew makes it right for Outer as it is now, and for what these interfaces are now. The chain "allow" stays as it is.
func (g *Guard) Renew(h *Handle) error {
	t, err := h.sameTable(g.Table())
	if err != nil {
		return err
	}
	return g.write(h, t)
}

func (g *Guard) write(h *Handle, t *nftTable) error {
	gateways, err := h.gateways()
	if err != nil {
		return err
	}
	allow := t.called("allow")
	c := t.chain(nftables.ChainHookForward, nftables.ChainTypeFilter, *nftables.ChainPriorityFilter, nftables.ChainPolicyAccept)
	t.conn.FlushChain(c)
	t.rule(c, "", inState(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), verdict(expr.VerdictAccept))
	t.rule(c, "sent on by a rule of the user's", translated(), verdict(expr.VerdictAccept))
	t.rule(c, "", []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: allow.Name}})
	for _, outer := range g.Outer {
		ways, err := h.guarded(outer, g.Interface, slices.Contains(gateways, outer))
		if err != nil {
			return err
		}
		for _, way := range ways {
			t.rule(c, "", in(outer), way, counted(), verdict(expr.VerdictDrop))
		}
	}
	return t.commit()
}

// guarded are the conditions under which what comes in by outer is dropped unless it was asked for. One that was a router
// before has its other ways left as they are, and so has one that is a gateway's inside.
func (h *Handle) guarded(outer, tunnel string, inside bool) (ways [][]expr.Any, err error) {
	var router4, router6 bool
	if !inside {
		if router4, err = h.wasOn("net/ipv4/conf/" + outer + "/forwarding"); err != nil {
			return nil, err
		}
		if router6, err = h.wasRouterIPv6(outer); err != nil {
			return nil, err
		}
	}
	// What a bridge does not route but bridges goes from it to itself, where br_netfilter shows it to us.
	var elsewhere []expr.Any
	if l, err := h.link(outer); err == nil && l.Type() == "bridge" {
		elsewhere = notOut(outer)
	}
	switch {
	case inside || router4 && router6:
		return [][]expr.Any{out(tunnel)}, nil
	case router4:
		return [][]expr.Any{out(tunnel), append(inFamily(unix.NFPROTO_IPV6), elsewhere...)}, nil
	case router6:
		return [][]expr.Any{out(tunnel), append(inFamily(unix.NFPROTO_IPV4), elsewhere...)}, nil
	}
	return [][]expr.Any{elsewhere}, nil
}

// Undo removes the table.
func (g *Guard) Undo(h *Handle) error {
	_, err := h.removeTable(g.Table())
	return err
}

// gateways are the tunnels of this host that lead others out.
func (h *Handle) gateways() (names []string, err error) {
	c, err := h.nft()
	if err != nil {
		return nil, err
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	for _, t := range tables {
		if name, is := strings.CutSuffix(t.Name, guardTable); is {
			names = append(names, strings.TrimPrefix(name, ourTables))
		}
	}
	return names, refusedByNft("list the tables of nftables", err)
}

// wasOn says whether a switch was on before the first of us has turned it on. One that is not there is off.
func (h *Handle) wasOn(key string) (on bool, err error) {
	s := &Sysctl{Key: key}
	before, shared, err := h.original(s.thing())
	if err == nil && !shared {
		before, err = s.read()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return before == "1", err
}

// wasRouterIPv6 is wasOn for the forwarding of IPv6 packets that come in by that interface.
func (h *Handle) wasRouterIPv6(name string) (bool, error) {
	if on, err := h.wasOn("net/ipv6/conf/" + name + "/force_forwarding"); on || err != nil {
		return on, err
	}
	original, shared, err := h.original(routerThing)
	if err != nil || !shared {
		on, err2 := h.wasOn("net/ipv6/conf/all/forwarding")
		return on, errors.Join(err, err2)
	}
	var before map[string]string
	err = json.Unmarshal([]byte(original), &before)
	return before["all"] == "1", err
}

// translated is for packets of connections whose destination a rule has changed (nft(8): ct status dnat).
func translated() []expr.Any {
	const destination = 1 << 5 // IPS_DST_NAT
	return []expr.Any{&expr.Ct{Key: expr.CtKeySTATUS, Register: unix.NFT_REG_1},
		masked(native32(destination)),
		compare(expr.CmpOpNeq, make([]byte, 4))}
}
