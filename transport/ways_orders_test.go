package transport

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func everyCircumstance(each func(name string, c circumstances)) {
	for _, transport := range []Transport{TransportUDP, TransportTCP, TransportAuto} {
		for k := range 8 {
			c := circumstances{transport: transport, addresses: 2, parallel: k&1 != 0, probes: k&2 != 0, smaller: k&4 != 0}
			if c.probes && !c.parallel || c.smaller && transport == TransportUDP {
				continue // who knows probes is a stunnel; nobody connects
			}
			each(fmt.Sprintf("%v parallel=%v probes=%v smaller=%v", transport, c.parallel, c.probes, c.smaller), c)
		}
	}
}

// beginnings lead to where more orders of events begin; each number is an event's.
var beginnings = map[string][]int{
	"nothing yet":                    nil,
	"waiting":                        {2, 1},
	"on UDP":                         {2, 4, 16},
	"on UDP, and the peer is silent": {2, 4, 16, 8, 1, 1},
	"UDP left":                       {2, 4, 16, 8, 1, 1, 1},
	"on TCP":                         {2, 1, 6, 5, 16},
	"on TCP, and UDP is being tried": {2, 1, 6, 5, 16, 8},
	"on TCP, and UDP has answered":   {2, 1, 6, 5, 16, 8, 4},
	"back on UDP":                    {2, 1, 6, 5, 16, 8, 4, 9},
	"on a connection of the peer's":  {13, 16},
	"two connections at once":        {2, 1, 13},
}

// Every order of events there is, up to a length.
func TestWaysKeepTheirRulesInEveryOrderOfEvents(t *testing.T) {
	const length = 3
	everyCircumstance(func(name string, c circumstances) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var extend func(r *rig, by int)
			extend = func(r *rig, by int) {
				for n := range rigEvents {
					if next := r.fork(); next.happen(n) && by > 1 {
						extend(next, by-1)
					}
				}
			}
			for _, sequence := range beginnings {
				r := newRig(t, c)
				for _, n := range sequence {
					r.happen(n)
				}
				extend(r, length)
			}
		})
	})
}

func TestWaysKeepTheirRulesInLongRandomOrders(t *testing.T) {
	everyCircumstance(func(name string, c circumstances) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(60) {
				random := rand.New(rand.NewPCG(seed, 7))
				c := c
				c.addresses = 1 + int(seed%3)
				r := newRig(t, c)
				for range 1500 {
					r.happen(random.IntN(rigEvents))
				}
			}
		})
	})
}

func FuzzWays(f *testing.F) {
	f.Add(byte(0xff), []byte{2, 0, 6, 5, 8, 1, 1, 16, 8, 4, 9, 8, 1, 1, 1, 1})
	f.Fuzz(func(t *testing.T, how byte, events []byte) {
		c := circumstances{
			transport: Transport(how % 3), addresses: 1 + int(how>>2)%3,
			parallel: how&16 != 0, probes: how&16 != 0 && how&32 != 0, smaller: how&64 != 0,
		}
		r := newRig(t, c)
		for _, n := range events[:min(len(events), 2000)] {
			r.happen(int(n) % rigEvents)
		}
	})
}
