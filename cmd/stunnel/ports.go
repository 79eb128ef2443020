package main

import (
	"fmt"
	"slices"

	"stunnel/cmd/internal/conf"
	"stunnel/cmd/internal/control"
	"stunnel/cmd/internal/doctor"
)

// sharedPort refuses a file whose ports another tunnel of this host has. What cannot be read is in nobody's way: when the
// ports are opened the kernel has the last word. No tunnel is asked anything, since one that just comes up may be looking here.
func sharedPort(f *conf.File) error {
	in := &f.Interface
	if in.BindDevice != "" {
		return nil // two devices may have the same port each
	}
	sockets, err := doctor.ReadSockets()
	if err != nil {
		return nil
	}
	for _, want := range []struct {
		network, word, key string
		port               uint16
	}{
		{"udp", "UDP", "ListenPort", listenPort(in)},
		{"tcp", "TCP", "ListenTCP", in.ListenTCP},
	} {
		i := slices.IndexFunc(sockets, func(s doctor.Socket) bool { return s.Overlaps(want.network, in.ListenAddress, want.port) })
		if want.port == 0 || i < 0 {
			continue
		}
		if name := tunnelOf(sockets[i].PID); name != "" && name != f.Name {
			return withHint(fmt.Errorf("%s: %s = %d is the %s port of the interface %s, which runs", f.Path, want.key, want.port, want.word, name),
				fmt.Sprintf("each tunnel needs another %s; or the same one of another ListenAddress each", want.key))
		}
	}
	return nil
}

// tunnelOf is the interface that a process runs; "": it is not known to run one.
func tunnelOf(pid int) string {
	names, _ := control.Interfaces() // who can't read them meets none that matter
	for _, name := range names {
		c, err := control.Dial(name)
		if err != nil {
			continue
		}
		owner := c.PID()
		c.Close()
		if owner == pid && pid != 0 {
			return name
		}
	}
	return ""
}

// listenPort is the UDP port that the file names; 0: none.
func listenPort(in *conf.Interface) uint16 {
	if in.ListenPort == nil {
		return 0
	}
	return *in.ListenPort
}
