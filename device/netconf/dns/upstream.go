package dns

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
)

// Upstream are the name servers that the machine had before tunnels told it of theirs, at most as many as the C library
// asks. It is for look-ups that must not depend on a tunnel.
//
// direct: past systemd-resolved, which would ask through the tunnel, straight to the servers that it has from interfaces
// other than those of which ours says that they are tunnels.
func Upstream(direct bool, ours func(index int) bool) ([]netip.Addr, error) {
	servers, err := machineFile().upstream()
	if err != nil {
		return nil, err
	}
	stub := func(a netip.Addr) bool { return slices.Contains(stubs, a) }
	if direct && slices.ContainsFunc(servers, stub) {
		servers = slices.DeleteFunc(servers, stub)
		servers = append(servers, behindStub(ours)...)
	}
	const most = 3 // MAXNS of resolv.h
	return servers[:min(len(servers), most)], nil
}

// upstream are the servers of the file, or of what ours has replaced.
func (f *file) upstream() ([]netip.Addr, error) {
	p, err := findPlace(f.path)
	if err != nil {
		return nil, err
	}
	body := p.text
	st, err := f.stateOf(p)
	if err == nil && st != nil && st.isOurs(p) {
		if body, err = st.original(); err != nil {
			return nil, err
		}
	}
	servers := parse(body).servers
	if len(servers) == 0 {
		servers = append(servers, netip.AddrFrom4([4]byte{127, 0, 0, 1})) // as resolv.conf(5) has it
	}
	return servers, nil
}

// behindStub asks resolved, or else reads the file that it keeps of its servers.
func behindStub(ours func(index int) bool) []netip.Addr {
	if r, err := dialResolved(); err == nil {
		defer r.close()
		if servers, err := r.servers(ours); err == nil {
			return servers
		}
	}
	body, _ := os.ReadFile(filepath.Join(resolvedRun, "resolv.conf")) // without, there is nothing to be known
	return parse(string(body)).servers
}
