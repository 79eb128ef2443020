// Command bench measures tunnels side by side: no tunnel, stunnel, the newest
// wireguard-go, and those of fastd, OpenVPN and tinc that are installed.
// `make bench` runs it as root; it builds what it can build, and writes
// benchmark.md (tables), benchmark.svg (a chart) and benchmark.json (every
// figure of every round) into docs/. README.md beside it says how to use it.
//
// Two hosts are two pairs of network and mount namespaces without names,
// joined by a veth. Each round makes new hosts for each tunnel, starts the
// tunnel, measures, and takes all down again; the tunnels take turns within a
// round, so that what the machine does meanwhile hits them all alike. Figures
// are medians of the rounds.
//
// The way of a measurement: main.go (flags, turns) -> world.go (two hosts and
// a tunnel) -> tunnel.go, others.go (how each is started) -> traffic.go,
// calls.go, profile.go (what is measured) -> results.go -> table.go, chart.go.
package main
