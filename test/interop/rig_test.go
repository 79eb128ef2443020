package interop

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.zx2c4.com/wireguard/wgctrl"
)

// rig is two interfaces in one network namespace, up, without a configuration:
// one of wireguard-go, which is the reference, and one of `stunnel userspace`.
type rig struct {
	reference, ours side
	control         *wgctrl.Client
}

type side struct {
	name string // of the interface
	port int    // to listen on: each side has its own
}

// sides are both, the reference first.
func (r *rig) sides() [2]side { return [2]side{r.reference, r.ours} }

// besideEachReference runs a test, in namespaces, beside the wireguard-go of
// go.mod and beside Debian's, which is four years older.
func besideEachReference(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Helper()
	inNamespaces(t, func(t *testing.T) {
		t.Run("wireguard-go of go.mod", func(t *testing.T) {
			test(t, newRig(t, wireguardGoOfGoMod(), 0))
		})
		t.Run("wireguard-go of Debian", func(t *testing.T) {
			if !exists(debianWireGuardGo) {
				t.Skip("SKIPPED: no " + debianWireGuardGo + ": `apt-get install wireguard-go`")
			}
			test(t, newRig(t, debianWireGuardGo, 1))
		})
	})
}

func wireguardGoOfGoMod() string { return os.Getenv(wireguardGoVariable) }

// newRig starts the two; n keeps their names apart from other rigs'.
func newRig(t *testing.T, reference string, n int) *rig {
	t.Helper()
	r := &rig{
		reference: side{fmt.Sprintf("ref%d", n), 50000 + 10*n},
		ours:      side{fmt.Sprintf("ours%d", n), 50001 + 10*n},
	}
	must(t, reference, r.reference.name)
	must(t, os.Getenv(stunnelVariable), "userspace", r.ours.name)
	for _, s := range r.sides() {
		must(t, "ip", "link", "set", s.name, "up")
	}
	var err error
	if r.control, err = wgctrl.New(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.control.Close() })
	return r
}

// common writes what a side says in the words that both should say.
func (s side) common(text string) string {
	return strings.NewReplacer(s.name, "IFACE", fmt.Sprint(s.port), "PORT").Replace(text)
}

// own is the reverse: an order for this side.
func (s side) own(text string) string {
	return strings.NewReplacer("IFACE", s.name, "PORT", fmt.Sprint(s.port)).Replace(text)
}

// mustAgree fails the test, and goes on, unless both sides say the same; it
// shows the lines that only one of them says.
func mustAgree(t *testing.T, about, reference, ours string) {
	t.Helper()
	if reference == ours {
		return
	}
	only := func(text, other string) string {
		lines := slices.DeleteFunc(strings.Split(text, "\n"), func(l string) bool {
			return slices.Contains(strings.Split(other, "\n"), l)
		})
		return strings.Join(lines, "\n\t")
	}
	t.Errorf("%s: wireguard-go says\n\t%s\nand stunnel\n\t%s", about, only(reference, ours), only(ours, reference))
}

// sortedLines are text's lines in alphabetical order: no implementation
// promises an order of peers.
func sortedLines(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// sortedBlocks keeps what stands before the first line that begins with start,
// sorts the blocks that begin with such a line, and the words behind the "=" or
// ":" of lines of allowed IPs.
func sortedBlocks(text, start string) string {
	var blocks []string
	head := ""
	for line := range strings.Lines(text) {
		if name, list, ok := strings.Cut(line, ", "); ok && strings.Contains(strings.ToLower(name), "allowed") {
			name, first, _ := cutAny(name)
			items := append([]string{first}, strings.Split(strings.TrimSpace(list), ", ")...)
			slices.Sort(items)
			line = name + strings.Join(items, ", ") + "\n"
		}
		switch {
		case strings.HasPrefix(line, start):
			blocks = append(blocks, line)
		case len(blocks) == 0:
			head += line
		default:
			blocks[len(blocks)-1] += line
		}
	}
	for i := range blocks {
		blocks[i] = strings.TrimSpace(blocks[i])
	}
	slices.Sort(blocks)
	return head + strings.Join(blocks, "\n\n")
}

// cutAny cuts "AllowedIPs = x" and "  allowed ips: x" before x.
func cutAny(s string) (name, rest string, ok bool) {
	i := strings.IndexAny(s, "=:")
	if i < 0 {
		return s, "", false
	}
	return s[:i+1] + " ", strings.TrimSpace(s[i+1:]), true
}
