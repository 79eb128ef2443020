package transport_test

import (
	"fmt"
	"testing"
	"time"

	"stunnel/test/memnet/packet"
)

// sendsTCP has from send n packets of TCP, one every interval.
func (w *world) sendsTCP(from, to *end, n int, interval time.Duration) {
	for i := range n {
		from.device.Inject(packet.Bare(from.inner, to.inner, 6, fmt.Appendf(nil, "segment %d at %v %020d", i, w.now(), i)))
		w.pass(interval)
	}
}

func TestWhatWentInVainIsNotSentLongAfterwards(t *testing.T) {
	ends := map[string]func(w *world, a, b *end){
		"the peer was given up": func(w *world, a, b *end) { w.pass(3 * time.Minute) },
		"the tunnel was down": func(w *world, a, b *end) {
			for _, up := range []bool{false, true} {
				if err := a.tunnel.SetUp(up); err != nil {
					w.t.Fatal(err)
				}
			}
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			inExtendedWorld(t, func(w *world) {
				a, b := w.autoCouple()
				w.chat(a, b, time.Second, 10*time.Second)
				again := w.stop(a)
				refuse := w.stop(b)
				w.sendsTCP(a, b, 30, 200*time.Millisecond)
				end(w, a, b)
				again()
				refuse()
				w.noUDP()
				b.heard()
				a.say(b, "much later")
				w.pass(10 * time.Second)
				b.mustHear("much later")
			})
		})
	}
}
