package netconf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

func familyName(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	}
	return "inet"
}

// ruleset is what nftables holds. Rules and sets are read when they are needed, once: there may be thousands.
type ruleset struct {
	conn   *nftables.Conn
	chains []*nftables.Chain
	rules  map[*nftables.Chain][]*nftables.Rule
	sets   map[nftables.Table]map[string]*simpleSet
}

// simpleSet is a set of single values, or a map from them; nil: it is none.
type simpleSet struct{ elements []nftables.SetElement }

func (h *Handle) readRuleset() (*ruleset, error) {
	c, err := h.nft()
	if err != nil {
		return nil, err
	}
	chains, err := c.ListChains()
	r := &ruleset{c, chains, make(map[*nftables.Chain][]*nftables.Rule), make(map[nftables.Table]map[string]*simpleSet)}
	return r, refusedByNft("read the rules of nftables", err)
}

// rulesOf are the rules of a chain; none if it has gone meanwhile.
func (r *ruleset) rulesOf(c *nftables.Chain) []*nftables.Rule {
	if rules, known := r.rules[c]; known {
		return rules
	}
	rules, err := r.conn.GetRules(c.Table, c)
	if err != nil {
		rules = nil
	}
	r.rules[c] = rules
	return rules
}

// set is nil if it is not a simple one, or not to be read.
func (r *ruleset) set(table *nftables.Table, name string) *simpleSet {
	key := nftables.Table{Name: table.Name, Family: table.Family}
	if s, known := r.sets[key][name]; known {
		return s
	}
	var found *simpleSet
	if set, err := r.conn.GetSetByName(table, name); err == nil && !set.Interval && !set.Concatenation {
		if elements, err := r.conn.GetSetElements(set); err == nil {
			found = &simpleSet{elements}
		}
	}
	if r.sets[key] == nil {
		r.sets[key] = make(map[string]*simpleSet)
	}
	r.sets[key][name] = found
	return found
}

func (r *ruleset) chain(table *nftables.Table, name string) *nftables.Chain {
	for _, c := range r.chains {
		if c.Table.Family == table.Family && c.Table.Name == table.Name && c.Name == name {
			return c
		}
	}
	return nil
}

// mapped is the verdict in an element of a map: the attributes NFTA_VERDICT_CODE and, for a jump, NFTA_VERDICT_CHAIN, which
// the library leaves as they are.
func mapped(value []byte) *expr.Verdict {
	const header, chain = 4, 12
	if len(value) < header+4 {
		return nil
	}
	v := &expr.Verdict{Kind: expr.VerdictKind(int32(binary.BigEndian.Uint32(value[header:])))}
	if len(value) > chain {
		v.Chain = printName(value[chain:])
	}
	return v
}

// printRule writes a rule about as nft(8) does: of what it asks for, the names of interfaces and no more.
func printRule(r *nftables.Rule) string {
	var words []string
	what := ""
	more := func() {
		if len(words) == 0 || words[len(words)-1] != "..." {
			words = append(words, "...")
		}
	}
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Meta:
			what = map[expr.MetaKey]string{expr.MetaKeyIIFNAME: "iifname", expr.MetaKeyOIFNAME: "oifname"}[e.Key]
		case *expr.Cmp:
			switch {
			case what == "":
				more()
			case e.Op == expr.CmpOpNeq:
				words = append(words, what+" !=", fmt.Sprintf("%q", printName(e.Data)))
			default:
				words = append(words, what, fmt.Sprintf("%q", printName(e.Data)))
			}
			what = ""
		case *expr.Lookup, *expr.Match:
			more()
		case *expr.Reject:
			words = append(words, "reject")
		case *expr.Verdict:
			words = append(words, "drop")
		case *expr.Target:
			words = append(words, strings.ToLower(e.Name))
		}
	}
	if comment, ok := userdata.GetString(r.UserData, userdata.TypeComment); ok {
		words = append(words, "comment", fmt.Sprintf("%q", comment))
	}
	return fmt.Sprintf("%s (handle %d)", strings.Join(words, " "), r.Handle)
}

func printName(data []byte) string {
	if end := bytes.IndexByte(data, 0); end >= 0 {
		return string(data[:end])
	}
	return string(data) + "*"
}
