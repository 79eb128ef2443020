package lab

import (
	"fmt"
	"strings"
)

// Switch makes an Ethernet switch: a host that is nothing but a Linux bridge,
// br0, and speaks no protocol itself. Lab.Plug connects hosts with it.
func (l *Lab) Switch(name string) *Host {
	l.t.Helper()
	s := l.Host(name)
	// A switch has no packet filter. Where br_netfilter is not there, sysctl passes the keys over.
	s.Run("sysctl", "-qew", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1",
		"net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0", "net.bridge.bridge-nf-call-arptables=0")
	s.Batch("link add br0 type bridge", "link set br0 up")
	return s
}

// Plug lays a cable from device on h, which is up then and has the given
// addresses, to a port of a switch.
func (l *Lab) Plug(h *Host, device string, s *Host, port string, addresses ...string) {
	l.t.Helper()
	s.Batch(fmt.Sprintf("link add %s type veth peer name %s netns %d", port, device, h.pid),
		fmt.Sprintf("link set %s master br0 up", port))
	ready := []string{"link set " + device + " up"}
	for _, address := range addresses {
		ready = append(ready, strings.Join(addressArgs(address, device), " "))
	}
	h.Batch(ready...)
}

// Batch runs commands of ip(8) on the host, up to the first that fails.
func (h *Host) Batch(commands ...string) {
	h.lab.t.Helper()
	h.Input(strings.Join(commands, "\n")+"\n", "ip", "-batch", "-")
}
