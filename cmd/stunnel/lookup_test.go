package main

import (
	"errors"
	"net"
	"net/netip"
	"testing"
)

func TestANameOfEtcHostsNeedsNoNameServer(t *testing.T) {
	l := &lookups{mark: func() uint32 { return 0 }}
	if found, _, err := l.ask(t.Context(), netip.Addr{}, false, "ip4", "localhost"); err != nil || len(found) == 0 || !found[0].Unmap().IsLoopback() {
		t.Errorf("localhost: %v, %v", found, err)
	}
	_, _, err := l.ask(t.Context(), netip.Addr{}, false, "ip4", "vpn.example.net")
	if failed := (*net.DNSError)(nil); !errors.As(err, &failed) || failed.IsNotFound {
		t.Errorf("a name that only a server could know: %v", err)
	}
}
