// Package transport is the engine of a tunnel: WireGuard's protocol
// (https://www.wireguard.com/papers/wireguard.pdf, sections 5 and 6) from
// packets on one side to datagrams on the other. It has the peers, their
// sessions and timers, the replay windows, the allowed IPs and the two hot
// loops; package crypto has the bytes, the device and the sockets are given.
//
// Most readers need New and Tunnel.Run: make a Tunnel of a device's queues and
// a way to open sockets, Configure it, SetUp it, Run it. Or they look for the
// way of a packet: outbound.go and inbound.go.
//
// # Goroutines
//
// Tunnel.Run starts all of them and returns when they have ended: two per lane
// (outbound reads the queue, inbound the socket; each takes a burst from the
// first byte to the last, with no queue in between), a few handshake workers
// (all public-key arithmetic), one timer loop. Peers have none. Inbound, having
// written, looks once at the queue (Queue.Look) and sends what is there as
// outbound would: whoever has what the queue gave owns the lane's sealer.
//
// # Ways
//
// By UDP or by TCP, at which of its addresses: that a peer's ways decide (ways.go), a state machine that is told what
// happens and says what is to be done. Handshake workers do it (proceed.go). Each connection has a goroutine of its own
// (streams.go), and so has one that comes about (dials.go).
//
// # Lanes
//
// A lane is a queue of the device and a socket; all sockets have one port, and
// any of them can send to any peer. Order is kept per flow: the device gives a
// flow to one queue (package device says how), and so one goroutine seals and
// sends it; at the other end the kernel gives all that comes from one remote
// address and port to one of the sockets (SO_REUSEPORT), and its lane writes to
// its own queue. Sessions, counters and the replay window belong to all lanes.
//
// # Frames
//
// In tap mode the device and the peers are the ports of a learning switch (lan.go).
//
// # Locks
//
// In the order in which they may be taken (a Queue's own, held while somebody
// has what it gave, comes before them all):
//
//	Tunnel.mu      the configuration; never on the hot path
//	peer.mu        a peer's handshake state, changes to its session slots
//	staging.mu     a peer's staged packets, also while they are sent; of those that are kept (silence.go) first
//	leaves         registry.mu, indexTable.mu, schedule.mu, initiations.mu,
//	               streams.mu, reassembly.mu, lane.writing, guard.mu, pathProbes.mu, fitting.mu,
//	               those of the table of stations (package fdb), and what a Socket
//	               or a Stream has
//
// None of them is held across the sealing or opening of a burst; staging's is while the
// few packets that waited for a handshake leave. What the hot path reads is
// atomic: the current session, the endpoint, a snapshot of the allowed IPs.
//
// # Whose keys
//
// A session's keys are wiped when the last goroutine that seals or opens with
// them has let go of it (session.acquire). Every session has a counter that
// only goes up; nothing is ever sealed twice under one value of it.
package transport
