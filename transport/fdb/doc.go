// Package fdb is the forwarding database of a learning switch (IEEE 802.1Q, 8.8): it
// knows behind which port a station was last heard.
//
// Most readers need two calls: [Table.Learn] says where a frame came from, and
// [Table.Lookup] where the next one for that station goes. Both are made for each run
// of frames on the hot path; what they read is atomic, and Learn takes a lock only where
// it has something new to write. The time is passed in, and no goroutine is started:
// who owns a table calls [Table.Sweep] now and then, which frees what Lookup finds too
// old anyway.
//
// A station belongs to one VLAN: the same address in another one is another station.
package fdb
