package conf

import (
	"bytes"
	"slices"
	"strings"

	"stunnel/cmd/internal/conf/nearest"
	"stunnel/transport"
)

// Parse reads the text of a configuration file. The path gives the interface its name and the errors their place;
// nothing is read from it, nor from the key files that the text names: see Load.
// It returns all errors of the file, an errors.Join of *Error in the order of their lines.
func Parse(path string, text []byte) (*File, error) {
	return parse(path, text, source{})
}

// parser holds what is known of a file while its lines are read.
type parser struct {
	faults
	file File

	section        string                // lower case; "" before the first, "?" in an unknown one
	lines          map[string]int        // of the keys of the present section that may stand there once
	interfaceLines map[string]int        // the same of [Interface], which may be taken up again
	peers          []peerLines           // of file.Peers[i]
	names          map[string]int        // of the peers -> line
	addressLines   []int                 // of file.Interface.Address[i]
	serverLines    []int                 // of file.Interface.DNS.Servers[i]
	routedLine     int                   // of the first DNS domain with a ~
	allowLine      int                   // of the last KillSwitchAllow
	macs           map[transport.MAC]int // of peers -> line; nil: none yet

	tables tableNames
}

// peerLines remembers where the parts of a peer stand, for errors that name two lines.
type peerLines struct {
	publicKey, psk, pskFile, extensions, macs int
	prefixes                                  []int // of AllowedIPs[i]
	endpoints, endpointsTCP                   []int // of Endpoints[i] and EndpointsTCP[i]
}

// source is where a text came from, as far as it matters.
type source struct {
	others  access    // what others may do with it
	readKey keyReader // nil: key files are not read
}

func parse(path string, text []byte, from source) (*File, error) {
	p := &parser{interfaceLines: make(map[string]int), names: make(map[string]int)}
	p.path = path
	p.file.Path = path
	p.file.Interface.Table = Table{Auto: true}
	p.file.Interface.Offload = true
	p.file.Interface.TrustedChecksums = true
	name, why := nameOf(path)
	if why != "" {
		p.fail(0, "", "%s", why)
	}
	p.file.Name = name
	if from.others.write != "" {
		p.fail(0, from.others.remedy, "%s; it is not used, since its hooks and keys could be anyone's", from.others.write)
	}

	lines, ok := scan(text, &p.faults)
	if !ok || p.foreign(lines, text) {
		return nil, p.err()
	}
	for _, l := range lines {
		p.line(l)
	}
	if from.readKey != nil {
		p.readKeys(from.readKey)
	}
	p.check()
	if from.others.read != "" && p.hasSecrets() {
		p.warn(0, "%s, and it has secret keys; chmod 600 it", from.others.read)
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	p.file.Warnings = p.warningTexts()
	return &p.file, nil
}

// foreign reports a file without [Interface]. It returns true if the file is none of ours at all: what stands in it is
// then not worth a line each.
func (p *parser) foreign(lines []line, text []byte) bool {
	ours, wrapper := false, false
	for _, l := range lines {
		switch sectionMeant(l.section) {
		case "Interface":
			return false
		case "Peer":
			ours = true
		}
		known := nearest.Word(l.key, names(interfaceKeys)) != "" || nearest.Word(l.key, names(peerKeys)) != ""
		ours = ours || known
		switch strings.ToLower(l.key) {
		case "accept", "connect", "cert", "cafile", "client":
			wrapper = true
		case "":
		default:
			wrapper = wrapper || !known && inWrapperDir(p.path)
		}
	}
	hint := "a file begins with [Interface], then come its keys; see wg-quick(8)"
	switch {
	case ours && lines[0].key != "" && indexOf(interfaceKeys, lines[0].key) >= 0:
		p.section, p.lines, p.file.Interface.Line = "interface", p.interfaceLines, lines[0].number
		p.fail(lines[0].number, "write [Interface] above this line", "key %s stands before the first section", quote(lines[0].key))
		return false
	case wrapper && !ours:
		hint = "this looks like a file of the TLS wrapper that is also called stunnel, which is another program"
	case len(bytes.TrimSpace(text)) == 0:
		hint = "the file is empty; " + hint
	}
	p.fail(0, hint, "there is no [Interface] section")
	return !ours
}

// sectionMeant is the section that a name stands for, if need be with a typo; "" for no known one.
func sectionMeant(name string) string { return nearest.Word(name, []string{"Interface", "Peer"}) }

func (p *parser) line(l line) {
	switch {
	case l.section != "" && (!l.open || sectionMeant(l.section) != ""):
		p.enter(l)
	case l.bare != "":
		hint := ""
		if strings.HasPrefix(l.bare, ";") || strings.HasPrefix(l.bare, "//") {
			hint = "comments begin with #"
		}
		p.fail(l.number, hint, "%s is neither [Section] nor Key = Value", quote(l.bare))
	case p.section == "?":
		// Its header has been reported.
	case p.section == "":
		p.fail(l.number, "", "key %s stands before the first section; write it below [Interface] or [Peer]", quote(l.key))
	default:
		p.key(l)
	}
}

// enter begins a section. What stands under a header with a typo is read too, so that all that is wrong is said at once.
func (p *parser) enter(l line) {
	meant := sectionMeant(l.section)
	hint := ""
	if meant != "" {
		hint = "did you mean [" + meant + "]?"
	}
	switch {
	case l.open:
		p.fail(l.number, hint, "%s is neither [Section] nor Key = Value", quote(l.bare))
	case !strings.EqualFold(meant, l.section):
		p.fail(l.number, hint, "unknown section [%s]; there are [Interface] and [Peer]", clip(l.section))
	}
	switch meant {
	case "Interface":
		p.section, p.lines = "interface", p.interfaceLines
		if p.file.Interface.Line != 0 { // wg-quick goes on where the first one ended
			p.warn(l.number, "a second [Interface]: it continues that of line %d", p.file.Interface.Line)
			return
		}
		p.file.Interface.Line = l.number
	case "Peer":
		p.section = "peer"
		p.file.Peers = append(p.file.Peers, Peer{Line: l.number})
		p.peers = append(p.peers, peerLines{})
		p.lines = make(map[string]int)
	default:
		p.section = "?"
	}
}

// clip is quote for a section's name, without the quotation marks.
func clip(s string) string { return strings.Trim(quote(s), `"`) }

// key obeys one Key = Value of the present section.
func (p *parser) key(l line) {
	keys, others, otherSection := interfaceKeys, peerKeys, "[Peer]"
	if p.section == "peer" {
		keys, others, otherSection = peerKeys, interfaceKeys, "[Interface]"
	}
	i := indexOf(keys, l.key)
	if i < 0 {
		p.unknownKey(l, keys, others, otherSection)
		return
	}
	k := keys[i]
	if !k.many {
		if first, again := p.lines[k.name]; again {
			p.warn(l.number, "%s again: it replaces that of line %d", k.name, first)
		}
		p.lines[k.name] = l.number
	}
	if l.value == "" && !k.mayBeEmpty {
		p.fail(l.number, "", "%s has no value; %s", k.name, k.right)
		return
	}
	k.set(p, l)
}

func (p *parser) unknownKey(l line, keys, others []key, otherSection string) {
	if i := indexOf(others, l.key); i >= 0 {
		p.fail(l.number, "", "%s belongs into %s", others[i].name, otherSection)
		return
	}
	if l.key == "" {
		p.fail(l.number, "", "there is no key before the =")
		return
	}
	hint := ""
	if near := nearest.Word(l.key, names(keys)); near != "" {
		hint = "did you mean " + near + "?"
	} else if near := nearest.Word(l.key, names(others)); near != "" {
		hint = "did you mean " + near + " of " + otherSection + "?"
	} else {
		hint = "known here are " + strings.Join(names(keys), ", ")
	}
	p.fail(l.number, hint, "unknown key %s", quote(l.key))
}

func indexOf(keys []key, name string) int {
	return slices.IndexFunc(keys, func(k key) bool { return strings.EqualFold(k.name, name) })
}

func names(keys []key) (all []string) {
	for _, k := range keys {
		all = append(all, k.name)
	}
	return all
}

// key is one known key of a section.
type key struct {
	name       string
	right      string // what a right value is: ends a sentence about a wrong one
	many       bool   // repetitions add up; of the others the last one counts
	mayBeEmpty bool
	set        func(*parser, line)
}
