package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"stunnel/device/capture"
)

// measureSites measures from host to host, neither of which knows of a tunnel, with packets as long as their LAN allows.
func measureSites(ctx context.Context, sites [2]*demoSite, size int64, stdout, stderr io.Writer) error {
	const count, longest = 50, 1500
	one, two := sites[0], sites[1]
	from, to := one.hosts[0], two.hosts[0]
	outside, err := one.vpn.record(demoCable)
	if err != nil {
		return err
	}
	defer outside.Close()
	times, err := ping(ctx, from, to.inner4, count, longest)
	if err != nil {
		return fmt.Errorf("ping with %d bytes: %w", longest, err)
	}
	if err := outside.Close(); err != nil {
		return err
	}
	var seen datagrams
	for _, f := range outside.Frames(func(capture.Frame) bool { return true }) {
		seen.count(f)
	}
	switch {
	case len(times.times) == 0:
		return fmt.Errorf("no packet of %d bytes was answered", longest)
	case seen.fragments > 0 || seen.longest > longest:
		return fmt.Errorf("packets of %d bytes made %d fragments of IP outside, and datagrams of %d bytes", longest, seen.fragments, seen.longest)
	}
	fmt.Fprintf(stderr, "stunnel: sending %s from %s to %s over TCP\n", bytesText(size), from.name, to.name)
	took, err := transfer(ctx, from, to, size)
	if err != nil {
		return fmt.Errorf("TCP through the tunnel: %w", err)
	}
	fmt.Fprintf(stdout, "From %s to %s, with packets of %d bytes over a path for %d bytes:\n\n", from.inner4, to.inner4, longest, longest)
	fmt.Fprintf(stdout, "  ping           %s\n", times)
	fmt.Fprintf(stdout, "  outside        %d datagrams for that, of at most %d bytes, none of them a fragment of IP\n", seen.number, seen.longest)
	fmt.Fprintf(stdout, "  TCP            %s in %.2f s, %.2f Gbit/s, all of it checked by a hash\n\n",
		bytesText(size), took.Seconds(), float64(size)*8/took.Seconds()/1e9)
	for _, s := range sites {
		status, err := s.vpn.status()
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "What the stunnel of %s has learned (stunnel show --macs):\n\n", s.vpn.name)
		showMACs(stdout, []tunnel{{name: s.vpn.name, status: status}})
		fmt.Fprintln(stdout)
	}
	return nil
}

// datagrams are those of the tunnel that were captured outside.
type datagrams struct {
	number, longest, fragments int // longest is in bytes, with the IP header
}

func (d *datagrams) count(f capture.Frame) {
	const ethernet, headers = 14, 20 + 8 // headers: of IPv4 and UDP
	if len(f.Data) < ethernet+headers || binary.BigEndian.Uint16(f.Data[12:]) != 0x0800 {
		return
	}
	ip := f.Data[ethernet:]
	const moreOrOffset = 0x3fff
	if binary.BigEndian.Uint16(ip[6:])&moreOrOffset != 0 {
		d.fragments++
	}
	payload, each := len(ip)-headers, len(ip)-headers
	if f.Cut > 0 {
		each = f.Cut
	}
	d.number += (payload + each - 1) / max(each, 1)
	d.longest = max(d.longest, headers+each)
}
