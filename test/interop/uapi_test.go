package interop

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// ask sends a request to a side's control socket as it stands and returns the
// answer up to the empty line, or to the end of the connection.
func ask(t *testing.T, s side, request string) string {
	t.Helper()
	c, err := net.Dial("unix", "/var/run/wireguard/"+s.name+".sock")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, s.own(request)); err != nil {
		t.Fatalf("%s: %q: %v", s.name, request, err)
	}
	return s.common(answer(t, bufio.NewReader(c)))
}

// answer reads up to the empty line, or to the end of the connection.
func answer(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	for text := ""; ; {
		line, err := r.ReadString('\n')
		text += line
		switch {
		case errors.Is(err, io.EOF) || err == nil && line == "\n":
			return text
		case err != nil:
			t.Fatalf("after %q: %v", text, err)
		}
	}
}

// extra begins the lines that only we tell; clients pass over what they do not
// know.
var extra = []string{"mtu=", "up=", "name=", "drop_", "offload_", "lanes=", "trusted_checksums=", "extensions=", "software=", "announced=",
	"refused=", "downgrades=", "goodbye_", "round_trip_", "echoes_", "listen_tcp=", "streams=", "strangers=", "transport=", "endpoints=",
	"endpoints_tcp=", "carrier=", "carrier_", "unanswered_", "path_mtu="}

// uapiTold is the answer to a get, but for what only we tell, in an order that
// both sides share.
func uapiTold(t *testing.T, s side) string {
	t.Helper()
	text, ok := strings.CutSuffix(ask(t, s, "get=1\n\n"), "errno=0\n\n")
	if !ok {
		t.Fatalf("%s: a get was answered by %q", s.name, text)
	}
	var lines []string
	of := "" // the peer, by the beginning of its key
	for line := range strings.Lines(text) {
		if key, ok := strings.CutPrefix(line, "public_key="); ok {
			of = key[:8] + ": "
		}
		if !slices.ContainsFunc(extra, func(e string) bool { return strings.HasPrefix(line, e) }) {
			lines = append(lines, of+line)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// Requests as no client that we know sends them: the same errno, also in its
// sign, and then the same state. wireguard-go applies what stands before a
// fault and we do not, so the faulty line comes first here where that shows.
// A keepalive is not switched on together with an endpoint that can be reached:
// how soon the bytes are counted is a matter of luck.
func TestOddRequestsAreAnsweredAsWireGuardGoDoes(t *testing.T) {
	const (
		private = "e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a"
		public  = "public_key=b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33\n"
		other   = "public_key=58402e695ba1772b1cc9309755f043251ea77fdcf10fbe63989ceb7e19321376\n"
		psk     = "preshared_key=188515093e952f5f22e865cef3012e72f8b5f0b598ac0309d5dacce3b70fcf52\n"
		zeros   = "0000000000000000000000000000000000000000000000000000000000000000"
	)
	set := func(lines ...string) string { return "set=1\n" + strings.Join(lines, "\n") + "\n\n" }
	peer := func(lines ...string) string { return "set=1\n" + public + strings.Join(lines, "\n") + "\n\n" }
	requests := []string{
		set("listen_port=PORT"),
		set("private_key=" + private),
		set("private_key=" + private[1:]),
		set("private_key=" + private + "00"),
		set("private_key=" + "x" + private[1:]),
		set("private_key="),
		set("listen_port=65536"), set("listen_port=-1"), set("listen_port=port"), set("listen_port="), set("listen_port=0x10"),
		set("fwmark=4294967296"), set("fwmark=0x20"), set("fwmark=off"), set("fwmark="), set("fwmark=77"), set("fwmark=0"),
		set("replace_peers=false"), set("replace_peers="), set("replace_peers=1"), set("replace_peers=true"),
		set("nonsense=1"), set("nonsense"), set("private_key"),
		set("endpoint=192.0.2.1:5"), set("allowed_ip=10.0.0.0/8"),
		set("public_key=" + private[1:]), set("public_key="),
		peer(),
		peer("preshared_key=" + private[1:]), peer("preshared_key="),
		peer(strings.TrimSpace(psk)),
		peer("preshared_key=" + zeros),
		peer("persistent_keepalive_interval=65536"), peer("persistent_keepalive_interval=-1"), peer("persistent_keepalive_interval=off"),
		peer("persistent_keepalive_interval=65535"), peer("persistent_keepalive_interval=0"),
		peer("endpoint=192.0.2.1"), peer("endpoint=example.com:5"), peer("endpoint=192.0.2.1:99999"), peer("endpoint=192.0.2.1:x"),
		peer("endpoint=[2001:db8::1:5"), peer("endpoint=2001:db8::1:5"), peer("endpoint="),
		peer("endpoint=192.0.2.1:5"), peer("endpoint=[2001:db8::1]:5"), peer("endpoint=[fe80::1%lo]:5"),
		peer("replace_allowed_ips=false"), peer("replace_allowed_ips=true"),
		peer("allowed_ip=10.0.0.0/33"), peer("allowed_ip=10.0.0.0"), peer("allowed_ip=2001:db8::/129"), peer("allowed_ip="), peer("allowed_ip=all"),
		peer("allowed_ip=10.1.2.3/8", "allowed_ip=2001:db8::1/32", "allowed_ip=10.1.2.3/32"),
		"set=1\n" + other + "allowed_ip=10.0.0.0/8\n\n",
		peer("replace_allowed_ips=true", "allowed_ip=10.0.0.0/8", "allowed_ip=10.0.0.0/8"),
		peer("allowed_ip=-10.0.0.0/8", "allowed_ip=10.2.0.0/16"),
		"set=1\n" + other + "allowed_ip=-10.2.0.0/16\n\n", // not its own
		peer("update_only=false"), peer("update_only=true"),
		peer("remove=false"), peer("protocol_version=2"), peer("protocol_version=1"),
		peer("nonsense=1"), peer("listen_port=5"), peer("private_key=" + private),
		peer("remove=true"),
		peer("remove=true"),
		peer("update_only=true", "allowed_ip=10.7.0.0/16"),
		peer("update_only=true", "remove=true"),
		peer("allowed_ip=10.8.0.0/16", strings.TrimSpace(other), "allowed_ip=10.9.0.0/16", strings.TrimSpace(public), "allowed_ip=10.10.0.0/16"),
		set("replace_peers=true", strings.TrimSpace(other), "allowed_ip=10.9.0.0/16"),
		set("private_key=" + zeros),
	}
	inNamespaces(t, func(t *testing.T) {
		r := newRig(t, wireguardGoOfGoMod(), 0)
		for _, request := range requests {
			what := fmt.Sprintf("%q", request)
			mustAgree(t, what, ask(t, r.reference, request), ask(t, r.ours, request))
			mustAgree(t, "get after "+what, uapiTold(t, r.reference), uapiTold(t, r.ours))
		}
	})
}

// One connection takes several operations.
func TestAConnectionTakesSeveralOperations(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		r := newRig(t, wireguardGoOfGoMod(), 0)
		for _, s := range r.sides() {
			c, err := net.Dial("unix", "/var/run/wireguard/"+s.name+".sock")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(5 * time.Second))
			in := bufio.NewReader(c)
			for i := range 3 {
				mark := fmt.Sprintf("fwmark=%d\n", 100+i)
				for _, op := range [][2]string{{"set=1\n" + mark + "\n", "errno=0\n"}, {"get=1\n\n", mark}} {
					if _, err := io.WriteString(c, op[0]); err != nil {
						t.Fatal(err)
					}
					if got := answer(t, in); !strings.Contains(got, op[1]) {
						t.Errorf("%s: %q was answered by %q", s.name, op[0], got)
					}
				}
			}
		}
	})
}
