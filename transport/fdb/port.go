package fdb

import "sync/atomic"

// A Port is one side of the switch: what was heard from there is sent there. A Port may
// be part of one Table only. The zero value but for Owner is ready.
type Port[T any] struct {
	Owner T // whatever the port stands for; constant

	// Trusted lets the port take over the stations of others where the table is Secure.
	// Constant.
	Trusted bool

	stations atomic.Int64
	closed   atomic.Bool
	fixed    atomic.Bool // only addresses pinned to it come from it
}

// Stations is how many stations are behind p, those included that are too old and were
// not swept yet.
func (p *Port[T]) Stations() int { return int(p.stations.Load()) }

// take makes room for one station more; false: there are limit already, or the port is
// closed. Who closes it looks for stations afterwards.
func (p *Port[T]) take(limit int64) bool {
	if p.stations.Add(1) > limit || p.closed.Load() {
		p.stations.Add(-1)
		return false
	}
	return true
}

func (p *Port[T]) give() { p.stations.Add(-1) }
