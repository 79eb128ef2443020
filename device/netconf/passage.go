package netconf

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"stunnel/device/netconf/ruleset"
)

// dockerChain is where Docker wants the rules of others.
const dockerChain = "DOCKER-USER"

// Passage lets what a gateway forwards through the firewalls of others: where the chains of another table would drop it
// (Docker and ufw set the policy of FORWARD to drop), rules that accept it come first in them, with a comment that names
// the interface. An accept in a table of our own would not help: each base chain has its say.
//
// firewalld writes its table anew at every reload: there Look fails, and says which commands let the packets pass.
type Passage struct {
	Interface  string
	Outer      []string // where what comes from Interface leaves
	IPv4, IPv6 bool

	Places []Place // where rules have to go, as Look has found them
}

// Place is a chain of somebody else's.
type Place struct {
	Family byte // unix.NFPROTO_...
	Table  string
	Chain  string
}

func (p Place) String() string {
	return fmt.Sprintf("table %s %s, chain %s", ruleset.FamilyName(nftables.TableFamily(p.Family)), p.Table, p.Chain)
}

func placeOf(c *nftables.Chain) Place { return Place{byte(c.Table.Family), c.Table.Name, c.Name} }

func (p Place) chain() *nftables.Chain {
	return &nftables.Chain{Name: p.Chain, Table: &nftables.Table{Name: p.Table, Family: nftables.TableFamily(p.Family)}}
}

// iptables says whether it is a chain that iptables-nft must go on to understand: it knows less than nft does.
func (p Place) iptables() bool { return p.Family != unix.NFPROTO_INET && p.Table == "filter" }

func (p *Passage) String() string {
	if len(p.Places) == 0 {
		return fmt.Sprintf("firewall: rules that let pass what %s and %s exchange, in other tables that would drop it", p.Interface, strings.Join(p.Outer, ", "))
	}
	var where []string
	for _, place := range p.Places {
		where = append(where, place.String())
	}
	return fmt.Sprintf("firewall: what %s and %s exchange is let pass in %s", p.Interface, strings.Join(p.Outer, ", "), strings.Join(where, "; "))
}

// comment is by which our rules are known.
func (p *Passage) comment() string { return "stunnel " + p.Interface }

func (p *Passage) ways() (ways []Way) {
	for _, outer := range p.Outer {
		for _, ipv6 := range []bool{false, true} {
			if ipv6 && p.IPv6 || !ipv6 && p.IPv4 {
				ways = append(ways, Way{In: p.Interface, Out: outer, IPv6: ipv6}, Way{In: outer, Out: p.Interface, IPv6: ipv6, Answer: true})
			}
		}
	}
	return ways
}

// BlockedError is a firewall that would drop what a gateway forwards, and can't be changed.
type BlockedError struct {
	Drop   Drop
	Remedy string
}

func (e *BlockedError) Error() string {
	return fmt.Sprintf("%s would be dropped by nftables: %s: %s", e.Drop.Way, placeOf(e.Drop.Chain), e.Drop.Rule)
}

// Advice says what to do about it.
func (e *BlockedError) Advice() string { return e.Remedy }

// Look finds the chains. Errors: a *BlockedError.
func (p *Passage) Look(h *Handle) (done bool, err error) {
	p.Places = nil
	drops, err := h.Drops(p.ways()...)
	if errors.Is(err, ErrNoNftables) {
		return true, nil // so nothing of it drops
	}
	if err != nil {
		return false, err
	}
	for _, d := range drops {
		if remedy := p.remedy(d); remedy != "" {
			return false, &BlockedError{d, remedy}
		}
		place := placeOf(d.Chain)
		if slices.Contains(d.Passed, dockerChain) {
			place.Chain = dockerChain
		}
		if !slices.Contains(p.Places, place) {
			p.Places = append(p.Places, place)
		}
	}
	return len(p.Places) == 0, nil
}

// remedy is what has to be done about a chain in which we do not write; "" for others.
func (p *Passage) remedy(d Drop) string {
	if other, is := KillSwitchOf(d.Chain.Table.Name); is {
		return fmt.Sprintf("it is the kill switch of %s: stunnel down %s, or stunnel unlock %s lifts it", other, other, other)
	}
	if d.Chain.Table.Name == "firewalld" {
		const command = "firewall-cmd --zone=trusted --add-interface="
		return fmt.Sprintf("%s%s lets it pass at once, and %s%s --permanent from the next reload on", command, p.Interface, command, p.Interface)
	}
	return ""
}

// Make inserts the rules, in one transaction, and looks whether they are enough.
func (p *Passage) Make(h *Handle) error {
	conn, err := h.nft()
	if err != nil {
		return err
	}
	for _, place := range p.Places {
		for _, outer := range p.Outer {
			related := inState(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)
			if place.iptables() {
				related = conntrackMatch()
			}
			p.insert(conn, place, in(p.Interface), out(outer))
			p.insert(conn, place, in(outer), out(p.Interface), related)
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: let %s pass in %s: %w", p.Interface, p.Places, err)
	}
	drops, err := h.Drops(p.ways()...)
	if err != nil || len(drops) == 0 {
		return err
	}
	return &BlockedError{drops[0], drops[0].By.Command() + " shows it"}
}

// insert puts a rule first. It has a counter, as those of iptables have.
func (p *Passage) insert(conn *nftables.Conn, place Place, parts ...[]expr.Any) {
	c := place.chain()
	r := &nftables.Rule{Table: c.Table, Chain: c, UserData: userdata.AppendString(nil, userdata.TypeComment, p.comment())}
	for _, part := range append(parts, counted(), verdict(expr.VerdictAccept)) {
		r.Exprs = append(r.Exprs, part...)
	}
	conn.InsertRule(r)
}

// Undo removes our rules from these chains, each by itself: who has removed one of them, or its table, is not in the way.
func (p *Passage) Undo(h *Handle) error {
	conn, err := h.nft()
	if err != nil {
		return err
	}
	there, err := conn.ListChains()
	if err != nil {
		return refusedByNft("read the rules of nftables", err)
	}
	var errs []error
	for _, place := range p.Places {
		c := place.chain()
		if !slices.ContainsFunc(there, func(c *nftables.Chain) bool { return placeOf(c) == place }) {
			continue // it has gone
		}
		rules, err := conn.GetRules(c.Table, c)
		if err != nil {
			errs = append(errs, fmt.Errorf("nftables: rules of %s in %s: %w", p.Interface, place, err))
			continue
		}
		for _, r := range rules {
			if comment, _ := userdata.GetString(r.UserData, userdata.TypeComment); comment != p.comment() {
				continue
			}
			if err := conn.DelRule(r); err != nil {
				errs = append(errs, err)
				continue
			}
			if err := conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("nftables: remove a rule of %s from %s: %w", p.Interface, place, err))
			}
		}
	}
	return errors.Join(errs...)
}

// LegacyTables are the tables of the old iptables that are in use here (filter, nat). Their rules can't be read by nftables.
func LegacyTables() (names []string) {
	for _, family := range []string{"ip", "ip6"} {
		text, err := os.ReadFile("/proc/thread-self/net/" + family + "_tables_names") // absent: nobody has ever loaded them
		if err != nil {
			continue
		}
		for _, name := range strings.Fields(string(text)) {
			names = append(names, family+"tables "+name)
		}
	}
	return names
}

// conntrackMatch is iptables' `-m conntrack --ctstate RELATED,ESTABLISHED`.
func conntrackMatch() []expr.Any {
	info := &xt.ConntrackMtinfo3{}
	info.MatchFlags = uint16(xt.ConntrackState)
	info.StateMask = uint16(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)
	return []expr.Any{&expr.Match{Name: "conntrack", Rev: 3, Info: info}}
}
