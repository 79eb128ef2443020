package dns

import (
	"fmt"
	"strings"
	"testing"
)

// tell is t for comparisons.
func tell(t text) string { return fmt.Sprint(t.servers, t.search, t.others) }

func TestResolvConfIsReadAsTheCLibraryReadsIt(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "[] [] []"},
		{"nameserver 192.0.2.1", "[192.0.2.1] [] []"},
		{"nameserver\t192.0.2.1 # ours\nnameserver ::ffff:192.0.2.2\n", "[192.0.2.1 192.0.2.2] [] []"},
		{"# nameserver 192.0.2.1\n;nameserver 192.0.2.1\n", "[] [] []"},
		{"nameserver none\nnameserver\n", "[] [] []"},
		{"search a.example b.example\ndomain c.example\n", "[] [c.example] []"},
		{"options ndots:5 edns0\r\nsortlist 192.0.2.0\n", "[] [] [options ndots:5 edns0 sortlist 192.0.2.0]"},
	} {
		if got := tell(parse(c.text)); got != c.want {
			t.Errorf("%q: %s, want %s", c.text, got, c.want)
		}
	}
}

func TestOurFileSaysWhoseItIsAndWhereTheOriginalIs(t *testing.T) {
	s := tunnel("tun0", "10.9.0.1")
	s.Search = []string{"corp.example"}
	got := render("nameserver 192.168.1.1\n", []owner{{Settings: s}}, "/var/lib/stunnel/x/original")
	if !strings.Contains(got, "by stunnel for tun0") || !strings.Contains(got, "/var/lib/stunnel/x/original\n") {
		t.Error(got)
	}
	if !strings.HasSuffix(got, "\nnameserver 10.9.0.1\nsearch corp.example\n") {
		t.Error(got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(lan)
	f.Add("nameserver fe80::1%eth0\noptions\nsearch\n")
	f.Fuzz(func(t *testing.T, s string) {
		once := parse(s)
		again := parse(once.lines())
		if tell(once) != tell(again) {
			t.Errorf("%q: %v, then %v", s, once, again)
		}
	})
}

func TestOnlyResolvedCanSplit(t *testing.T) {
	s := tunnel("tun0", "10.9.0.1")
	for _, c := range []struct {
		route []string
		split bool
	}{{nil, false}, {[]string{"."}, false}, {[]string{"corp.example"}, true}, {[]string{"corp.example", "."}, false}} {
		s.Route = c.route
		for _, w := range []Way{ByResolved, ByResolvconf, ByFile} {
			if err := Check(w, s); (err != nil) != (c.split && w != ByResolved) {
				t.Errorf("%v by %s: %v", c.route, w, err)
			}
		}
	}
}
