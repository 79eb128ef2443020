package main

import "slices"

// metric is a figure of a sample that the tables and the chart show.
type metric struct {
	key     string // in the sample
	title   string
	unit    string
	lower   bool // less is better
	digits  int  // behind the point
	inChart bool
}

var metrics = []metric{
	{key: "tcp1.gbps", title: "TCP, 1 stream", unit: "Gb/s", digits: 2, inChart: true},
	{key: "tcp4.gbps", title: "TCP, 4 streams", unit: "Gb/s", digits: 2, inChart: true},
	{key: "reverse.gbps", title: "TCP, 1 stream, reverse", unit: "Gb/s", digits: 2},
	{key: "tcp1.cpu", title: "CPU of both ends, 1 stream", unit: "s/GB", lower: true, digits: 2, inChart: true},
	{key: "tcp4.cpu", title: "CPU of both ends, 4 streams", unit: "s/GB", lower: true, digits: 2},
	{key: "tcp1.machine", title: "CPU of the whole machine, 1 stream", unit: "s/GB", lower: true, digits: 2},
	{key: "udp64.kpps", title: "UDP of 64 bytes, delivered", unit: "1000/s", digits: 1, inChart: true},
	{key: "udp64.lost", title: "UDP of 64 bytes, lost", unit: "%", lower: true, digits: 0},
	{key: "udp1372.gbps", title: "UDP of 1372 bytes, delivered", unit: "Gb/s", digits: 2, inChart: true},
	{key: "udp1372.lost", title: "UDP of 1372 bytes, lost", unit: "%", lower: true, digits: 0},
	{key: "ping.us", title: "ping, idle", unit: "µs", lower: true, digits: 0, inChart: true},
	{key: "loadping.us", title: "ping under one TCP stream", unit: "µs", lower: true, digits: 0, inChart: true},
	{key: "loadping.max", title: "ping under one TCP stream, worst", unit: "µs", lower: true, digits: 0},
	{key: "tcp4.peak", title: "peak memory per end, 4 streams", unit: "MB", lower: true, digits: 1, inChart: true},
	{key: "udp64.peak", title: "peak memory per end, UDP of 64 bytes", unit: "MB", lower: true, digits: 1},
	{key: "calls.tcp1.a.all", title: "system calls per GB, sending end", unit: "", lower: true, digits: 0},
	{key: "calls.tcp1.b.all", title: "system calls per GB, receiving end", unit: "", lower: true, digits: 0},
	{key: "calls.udp64.a.all", title: "system calls per 1,000 datagrams of 64 bytes, sending end", unit: "", lower: true, digits: 0},
	{key: "calls.udp64.b.all", title: "system calls per 1,000 datagrams of 64 bytes, receiving end", unit: "", lower: true, digits: 0},
	{key: "calls.ping.a.all", title: "system calls per idle ping, pinging end", unit: "", lower: true, digits: 1},
	{key: "calls.ping.b.all", title: "system calls per idle ping, answering end", unit: "", lower: true, digits: 1},
	{key: "calls.ping.a.sleeps", title: "sleeps per idle ping, pinging end", unit: "", lower: true, digits: 1},
	{key: "calls.ping.b.sleeps", title: "sleeps per idle ping, answering end", unit: "", lower: true, digits: 1},
}

// spread is the median of some rounds, and the least and the most of them.
type spread struct{ median, least, most float64 }

func spreadOf(values []float64) spread {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return spread{median: (v[(n-1)/2] + v[n/2]) / 2, least: v[0], most: v[n-1]}
}
