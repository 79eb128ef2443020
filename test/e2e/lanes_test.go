package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"stunnel/test/lab"
)

// withKeys adds lines to the [Interface] of a file.
func withKeys(t *testing.T, l *lab.Lab, path, lines string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return l.File(strings.TrimPrefix(path, l.Dir+"/"), strings.Replace(string(text), "[Interface]\n", "[Interface]\n"+lines, 1))
}

func TestManyLanesCarryEverythingWhole(t *testing.T) {
	h := newTwoHosts(t, outerA+":51820", outerB+":51820")
	for _, path := range []string{h.alphaConf, h.conf} {
		withKeys(t, h.Lab, path, "Lanes = 4\n")
	}
	beforeA, beforeB := state(h.alpha), state(h.beta)
	a, b := up(h.alpha, h.alphaConf), up(h.beta, h.conf)
	if n := show(t, h.alpha, "tun0").Interfaces[0].Lanes; n != 4 {
		t.Errorf("%d lanes, want 4", n)
	}
	ping(t, h.alpha, innerB, 5)
	ping(t, h.beta, innerA6, 5, "-s", "1372")
	streams := func() {
		t.Helper()
		var finish []func()
		for i := range 3 {
			finish = append(finish,
				beginTransfer(t, h.alpha, h.beta, fmt.Sprintf("%s:%d", innerB, 7000+i), 8<<20),
				beginTransfer(t, h.beta, h.alpha, fmt.Sprintf("[%s]:%d", innerA6, 7000+i), 8<<20))
		}
		for _, f := range finish {
			f()
		}
	}
	streams()

	// Sockets are replaced while a stream goes through them, and taken away.
	transfer(t, h.beta, h.alpha, innerA+":7100", 12<<20, func() {
		h.beta.Run("wg", "set", "tun0", "listen-port", "4711")
	})
	if got := show(t, h.alpha, "tun0").Interfaces[0].Peers[0].Endpoint; got != outerB+":4711" {
		t.Errorf("beta's endpoint is %s, want %s:4711", got, outerB)
	}
	for range 3 {
		h.beta.Run("ip", "link", "set", "tun0", "down")
		h.beta.Run("ip", "link", "set", "tun0", "up")
	}
	h.beta.Run("ip", "-6", "address", "replace", innerB6+"/64", "dev", "tun0", "nodad") // the kernel took it away
	ping(t, h.beta, innerA, 5)
	ping(t, h.alpha, innerB6, 5)
	streams()
	for _, p := range []*lab.Process{a, b} {
		if status := p.Stop(); status != 0 {
			t.Errorf("exit status %d, want 0", status)
		}
	}
	sameState(t, h.alpha, beforeA)
	sameState(t, h.beta, beforeB)
}

func TestManyLanesOnAnInterfaceThatWasThereBefore(t *testing.T) {
	for _, c := range []struct {
		made  []string
		lanes int
		says  string
	}{
		{nil, 1, "fewer lanes than wanted"},
		{[]string{"multi_queue"}, 3, ""},
	} {
		h := newTwoHosts(t, outerA+":51820", outerB+":51820")
		withKeys(t, h.Lab, h.alphaConf, "Lanes = 3\n")
		h.alpha.Run(append([]string{"ip", "tuntap", "add", "tun0", "mode", "tun"}, c.made...)...)
		h.alpha.Run("ip", "link", "set", "tun0", "up") // the first time, the kernel gives it a queueing discipline
		h.alpha.Run("ip", "link", "set", "tun0", "down")
		before := state(h.alpha)
		a := up(h.alpha, h.alphaConf)
		up(h.beta, h.conf)
		if n := show(t, h.alpha, "tun0").Interfaces[0].Lanes; n != c.lanes {
			t.Errorf("%v: %d lanes, want %d", c.made, n, c.lanes)
		}
		if c.says != "" != strings.Contains(a.Output(), "fewer lanes") {
			t.Errorf("%v: said %s", c.made, a.Output())
		}
		transfer(t, h.alpha, h.beta, innerB+":7000", 4<<20)
		if status := a.Stop(); status != 0 {
			t.Errorf("exit status %d, want 0", status)
		}
		sameState(t, h.alpha, before)
	}
}
