package transport

import (
	"testing"
	"time"

	"stunnel/transport/ethernet"
	"stunnel/transport/extension"
)

// says has e send frames to a peer just so, as nobody does who switches them.
func (e *end) says(to *end, now time.Duration, frames ...[]byte) {
	var plaintexts [][]byte
	for _, f := range frames {
		plaintexts = append(plaintexts, append(extension.AppendHeader(nil, extension.KindFrame, 0, len(f)), f...))
	}
	e.to(to).sendNow(plaintexts, now)
	e.pass(to)
}

// probeFrame is a probe of somebody else's, with tags that bear no VLAN.
func probeFrame(source MAC, tags, payload int) []byte {
	f := append(append([]byte(nil), probeGroup[:]...), source[:]...)
	for range tags {
		f = append(f, 0x81, 0, 0xe0, 0)
	}
	return append(append(f, probeType>>8, probeType&0xff), make([]byte, payload)...)
}

func TestProbesOfAllLengthsInOneBurstAreLookedAtEachByItself(t *testing.T) {
	source := MAC{2, 0, 0, 0, 0, 9}
	other := probeFrame(source, 0, 46)
	other[13]++ // for the same group, and no probe
	all := [][]byte{probeFrame(source, 2, 0), probeFrame(source, 0, 0), probeFrame(source, 1, 46), probeFrame(source, 0, 23), other, probeFrame(source, 0, 46)}
	ends, clock := star(t, 2)
	a, b := ends[0], ends[1]
	b.says(a, *clock, all...)
	f := splitFrames(all...)
	a.lanes[0].outbound(f.first, f.rest, f.partial, *clock)
	a.pass(b)
	for i, e := range ends {
		if n := len(e.stack.written); n != len(all) {
			t.Errorf("%d frames came to end %d, want %d", n, i, len(all))
		}
		others := 0
		for _, station := range e.lan.table.All(*clock) {
			if station.MAC == source {
				others++
			}
		}
		if others != 1 {
			t.Errorf("end %d has learned the source %d times, want once, of what is no probe", i, others)
		}
	}
}

// What a peer sends as a probe passes port security, so it must not bring an address along:
// the bridges behind would believe that its station is there.
func TestAProbeBringsNoAddressOfThePeersChoice(t *testing.T) {
	ends, clock := star(t, 3)
	h, a, b := ends[0], ends[1], ends[2]
	victim := MAC{2, 0, 0, 0, 0, 1}
	a.says(h, *clock, probeFrame(victim, 0, 46), probeFrame(victim, 1, 46))
	h.pass(b)
	for _, e := range []*end{h, b} {
		if len(e.stack.written) != 2 {
			t.Fatalf("%d probes came, want 2", len(e.stack.written))
		}
		for _, f := range e.stack.written {
			if header, ok := ethernet.Parse(f); !ok || header.Source != e.lan.guard.source || header.Destination != probeGroup {
				t.Errorf("a probe came out as from %v to %v", header.Source, header.Destination)
			}
		}
	}
}

func TestProbesOfOthersCostNoTag(t *testing.T) {
	var g guard
	g.init()
	var own [][]byte
	for range probesKnown + 1 {
		own = append(own, g.next(time.Hour)[ethernet.HeaderSize:])
	}
	for i, payload := range own {
		ours, fresh := g.check(payload, time.Hour+probeValid)
		if ours != (i > 0) || fresh != (i == probesKnown) {
			t.Errorf("probe %d of %d: ours %v, fresh %v", i, len(own), ours, fresh)
		}
	}
	if _, fresh := g.check(own[probesKnown], time.Hour+probeValid+1); fresh {
		t.Error("a probe is fresh for too long")
	}
	foreign := make([]byte, probePayload)
	if n := testing.AllocsPerRun(100, func() { g.check(foreign, time.Hour) }); n != 0 {
		t.Errorf("%v allocations for each", n)
	}
}
