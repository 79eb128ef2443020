package ruleset

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

var hookNames = map[uint32]string{
	unix.NF_INET_PRE_ROUTING: "prerouting", unix.NF_INET_LOCAL_IN: "input", unix.NF_INET_FORWARD: "forward",
	unix.NF_INET_LOCAL_OUT: "output", unix.NF_INET_POST_ROUTING: "postrouting",
}

// print writes a rule about as nft(8) does: of what it asks for, the names of interfaces and no more. The end of a chain is its
// policy.
func (p place) print() string {
	if p.rule == nil {
		return fmt.Sprintf("chain %s { type filter hook %s; policy drop; }", p.chain.name, hookNames[p.chain.hook])
	}
	r := p.rule
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
