package main

import (
	"fmt"
	"slices"

	"stunnel/cmd/internal/conf"
	"stunnel/cmd/internal/control"
	"stunnel/cmd/internal/doctor"
	"stunnel/transport"
)

// sharedPort refuses a file whose ports another tunnel of this host has. What cannot be read is in nobody's way: when the
// ports are opened the kernel has the last word. While the tunnel comes up it is asked when that has refused: two of them
// that come up at a time would wait for each other's answer.
func sharedPort(f *conf.File) error {
	in := &f.Interface
	if in.BindDevice != "" {
		return nil // two devices may have the same port each
	}
	running := otherTunnels(f.Name)
	if len(running) == 0 {
		return nil
	}
	sockets, err := doctor.ReadSockets()
	if err != nil {
		return nil
	}
	for _, want := range []struct {
		network, word, key string
		port               uint16
		has                func(*transport.Status) uint16
	}{
		{"udp", "UDP", "ListenPort", listenPort(in), func(s *transport.Status) uint16 { return s.ListenPort }},
		{"tcp", "TCP", "ListenTCP", in.ListenTCP, func(s *transport.Status) uint16 { return s.ListenTCP }},
	} {
		if want.port == 0 || !slices.ContainsFunc(sockets, func(s doctor.Socket) bool { return s.Overlaps(want.network, in.ListenAddress, want.port) }) {
			continue
		}
		i := slices.IndexFunc(running, func(t tunnel) bool { return want.has(&t.status) == want.port })
		if i < 0 {
			continue // another program's
		}
		return withHint(fmt.Errorf("%s: %s = %d is the %s port of the interface %s, which runs", f.Path, want.key, want.port, want.word, running[i].name),
			fmt.Sprintf("each tunnel needs another %s; or the same one of another ListenAddress each", want.key))
	}
	return nil
}

// otherTunnels are those of this network namespace that run and can be asked, but for the one of that name.
func otherTunnels(name string) (others []tunnel) {
	names, _ := control.Interfaces() // who can't read them meets none that matter
	for _, n := range names {
		if n == name {
			continue
		}
		if t, err := ask(n); err == nil && t.elsewhere == 0 {
			others = append(others, t)
		}
	}
	return others
}

// listenPort is the UDP port that the file names; 0: none.
func listenPort(in *conf.Interface) uint16 {
	if in.ListenPort == nil {
		return 0
	}
	return *in.ListenPort
}
