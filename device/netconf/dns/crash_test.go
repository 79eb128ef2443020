package dns

import (
	"os"
	"strings"
	"testing"
)

// killed is how a test ends in the middle of things.
type killed struct{}

// killedAt runs do until its n-th moment, and says whether it got that far.
func killedAt(n int, do func()) (was bool) {
	moments := 0
	crash = func() {
		if moments++; moments == n {
			panic(killed{})
		}
	}
	defer func() {
		crash = func() {}
		if r := recover(); r != nil {
			if _, ours := r.(killed); !ours {
				panic(r)
			}
			was = true
		}
	}()
	do()
	return false
}

// everyMoment makes a machine for each moment of do, kills it there, and lets after look at it. It returns how many there are.
func everyMoment(t *testing.T, begin, do, after func(m *machine)) (moments int) {
	t.Helper()
	for n := 1; ; n++ {
		m := newMachine(t)
		begin(m)
		if !killedAt(n, func() { do(m) }) {
			return n - 1
		}
		after(m)
		if t.Failed() {
			t.Fatalf("killed at moment %d", n)
		}
	}
}

func TestATunnelThatIsKilledAtAnyMomentLeavesNothing(t *testing.T) {
	for _, c := range []struct {
		what  string
		begin func(m *machine)
		do    func(m *machine)
	}{
		{"on the way up", func(m *machine) { m.write(lan) }, func(m *machine) { m.claim(1, tunnel("tun0", "10.9.0.1")) }},
		{"on the way up, where there is no file", func(m *machine) {}, func(m *machine) { m.claim(1, tunnel("tun0", "10.9.0.1")) }},
		{"on the way down", func(m *machine) { m.write(lan); m.claim(1, tunnel("tun0", "10.9.0.1")) }, func(m *machine) { m.release("tun0") }},
		{"on the way down, where there was no file", func(m *machine) { m.claim(1, tunnel("tun0", "10.9.0.1")) }, func(m *machine) { m.release("tun0") }},
		{"on the way up over another's text", func(m *machine) {
			m.write("nameserver 172.16.0.1\n")
			m.claim(1, tunnel("tun1", "10.9.1.1"))
			m.write(lan)
		}, func(m *machine) { m.claim(1, tunnel("tun0", "10.9.0.1")) }},
	} {
		for _, how := range []string{"mend", "down"} {
			t.Run(c.what+", then "+how, func(t *testing.T) {
				moments := everyMoment(t, c.begin, c.do, func(m *machine) {
					m.dead[1] = true
					if how == "mend" {
						m.mend()
					} else {
						m.release("tun0")
					}
					text, err := os.ReadFile(m.path())
					if strings.Contains(c.what, "no file") {
						if !os.IsNotExist(err) {
							t.Errorf("there is a file: %q, %v", text, err)
						}
					} else if string(text) != lan {
						t.Errorf("%q, %v", text, err)
					}
					// And the next tunnel finds nothing odd.
					m.claim(3, tunnel("tun3", "10.9.3.1"))
					m.asks("10.9.3.1")
					if note := m.release("tun3"); note != "" {
						t.Error(note)
					}
					if left := m.tree(); strings.Contains(left, ".stunnel ") || strings.Contains(left, "state.json") {
						t.Errorf("left behind:\n%s", left)
					}
				})
				if moments < 3 {
					t.Errorf("%d moments", moments)
				}
				t.Logf("%d moments", moments)
			})
		}
	}
}

func TestAnotherTunnelGoesOnWhereOneIsKilled(t *testing.T) {
	everyMoment(t, func(m *machine) {
		m.write(lan)
		m.claim(1, tunnel("tun0", "10.9.0.1"))
	}, func(m *machine) {
		m.claim(2, tunnel("tun1", "10.9.1.1"))
	}, func(m *machine) {
		m.dead[2] = true
		m.mend()
		m.asks("10.9.0.1")
		if m.release("tun0"); m.read() != lan {
			t.Error(m.read())
		}
	})
}
