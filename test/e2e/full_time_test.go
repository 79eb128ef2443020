package e2e

import (
	"testing"
	"time"
)

// The figure is for those who wait for it, the bound for the tests: what waits for something that does not come shows here.
func TestAFullTunnelComesAndGoesInAMoment(t *testing.T) {
	w := newFullWorld(t, 1)
	path := w.file("full", 0, everything, "")
	var ups, downs []time.Duration
	for range 5 {
		begin := time.Now()
		w.client.Run(binary, "up", path, "--detach", "--log-file", w.Dir+"/log")
		ups = append(ups, time.Since(begin))
		begin = time.Now()
		w.client.Run(binary, "down", "full")
		downs = append(downs, time.Since(begin))
	}
	t.Logf("up %v", ups)
	t.Logf("down %v", downs)
	for _, d := range append(ups, downs...) {
		if d > 10*time.Second {
			t.Errorf("it took %v", d)
		}
	}
}
