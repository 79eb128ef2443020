package e2e

import (
	"os"
	"strings"
	"testing"
)

func TestWhatIsBoundToAnAddressOfTheTunnelGoesThroughIt(t *testing.T) {
	t.Parallel()
	h := newTwoHosts(t, "", outerB+":51820")
	h.beta.Address("10.77.0.1/32", "lo")
	h.beta.Address("fd77::1/128", "lo")
	text, err := os.ReadFile(h.alphaConf)
	if err != nil {
		t.Fatal(err)
	}
	whole := strings.Replace(string(text), innerB+"/32, "+innerB6+"/128", "0.0.0.0/0, ::/0", 1)
	conf := h.File("alpha/tun0.conf", strings.Replace(whole, "ListenPort = 51820\n", "Table = 7\nSourceRules = yes\nMetric = 50\n", 1))
	before := state(h.alpha)
	up(h.beta, h.conf)
	p := up(h.alpha, conf)
	if out, err := h.alpha.Try("ping", "-n", "-c", "1", "-W", "1", "10.77.0.1"); err == nil {
		t.Errorf("what is not bound goes through the tunnel: %s", out)
	}
	ping(t, h.alpha, "10.77.0.1", 3, "-I", innerA)
	ping(t, h.alpha, "fd77::1", 3, "-I", innerA6)
	if routes := h.alpha.Run("ip", "route", "show", "table", "7"); !strings.Contains(routes, "default dev tun0") || !strings.Contains(routes, "metric 50") {
		t.Errorf("table 7: %s", routes)
	}
	p.Kill()
	h.alpha.Run(binary, "down", "tun0")
	sameState(t, h.alpha, before)
}
