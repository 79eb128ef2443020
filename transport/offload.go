package transport

import (
	"maps"
	"slices"
	"strings"
)

// Offload is one thing that the kernel can do for whole trains of packets, at
// the device or at the sockets.
type Offload struct {
	// Name is a word of lower-case letters, digits and '_': "tso4", "gso".
	Name string
	// Off is why it is not in use; "": it is.
	Off string
}

// A Queue or a Socket may have these methods too. What they tell is shown by
// Status; any caller, at any time.
type (
	// offloader tells its offloads by name; the value is "" for one that is in
	// use, and else why it is not.
	offloader interface{ Offloads() map[string]string }
	// dropper counts by reason what it has dropped itself.
	dropper interface{ Drops() map[string]uint64 }
)

// offloads are those of all lanes, sorted by name: what is not in use in one of
// them is not in use. The sockets' are known only while the tunnel is up.
func (t *Tunnel) offloads() []Offload {
	all := make(map[string]string)
	add := func(part any) {
		o, ok := part.(offloader)
		if !ok {
			return
		}
		for name, off := range o.Offloads() {
			if before := all[name]; before == "" {
				all[name] = off
			}
		}
	}
	for _, l := range t.lanes {
		add(l.queue)
	}
	for _, s := range t.binding.Load().sockets {
		add(s)
	}
	var sorted []Offload
	for _, name := range slices.Sorted(maps.Keys(all)) {
		sorted = append(sorted, Offload{name, all[name]})
	}
	return sorted
}

// tellOffloads logs what they are, once. mu is held.
func (t *Tunnel) tellOffloads() {
	if t.offloadsTold {
		return
	}
	var on, off []string
	for _, o := range t.offloads() {
		if o.Off == "" {
			on = append(on, o.Name)
		} else {
			off = append(off, o.Name+": "+o.Off)
		}
	}
	if len(on)+len(off) == 0 {
		return
	}
	t.offloadsTold = true
	if len(on) == 0 {
		on = []string{"none"}
	}
	args := []any{"in_use", strings.Join(on, " ")}
	if len(off) > 0 {
		args = append(args, "not", strings.Join(off, "; "))
	}
	t.log.Info("offloads", args...)
}

// deviceDrops are what the queues have dropped, added to drops.
func (t *Tunnel) deviceDrops(drops map[string]uint64) map[string]uint64 {
	for _, l := range t.lanes {
		d, ok := l.queue.(dropper)
		if !ok {
			continue
		}
		for reason, n := range d.Drops() {
			if drops == nil {
				drops = make(map[string]uint64)
			}
			drops[reason] += n
		}
	}
	return drops
}
