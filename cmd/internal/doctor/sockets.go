package doctor

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Socket is a UDP socket of any program, or a TCP one that listens.
type Socket struct {
	Network string // udp or tcp
	Local   netip.AddrPort
	Inode   uint64
	Program string // "" and PID 0: it is not known whose it is
	PID     int
}

// owner says whose it is.
func (s Socket) owner() string {
	if s.PID == 0 {
		return "a program that this user may not see"
	}
	return fmt.Sprintf("%s, process %d", s.Program, s.PID)
}

// Overlaps says whether who wants that port at an address of this host, the zero Addr for all of them, is in the way of s.
func (s Socket) Overlaps(network string, address netip.Addr, port uint16) bool {
	if s.Network != network || s.Local.Port() != port {
		return false
	}
	own := s.Local.Addr()
	switch {
	case !address.IsValid():
		return true
	case own.IsUnspecified():
		return own.Is6() || address.Is4() // one of IPv6 takes IPv4 too
	}
	return own.Unmap() == address.WithZone("")
}

// ReadSockets reads /proc/net/udp, udp6, tcp and tcp6 (proc(5)), and looks for the owners in /proc/*/fd.
func ReadSockets() (all []Socket, err error) {
	for _, network := range []string{"udp", "udp6", "tcp", "tcp6"} {
		path := "/proc/net/" + network
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without that family
		}
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(f)
		lines.Scan() // the heading
		for lines.Scan() {
			if s, listens, ok := parseSocket(lines.Text()); ok && (listens || network[0] == 'u') {
				s.Network = network[:3]
				all = append(all, s)
			}
		}
		f.Close()
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	findOwners(all)
	return all, nil
}

// parseSocket reads a line: number, local address, remote address, state, and the inode as the tenth word.
func parseSocket(line string) (s Socket, listens, ok bool) {
	words := strings.Fields(line)
	if len(words) < 10 {
		return s, false, false
	}
	const listening = "0A"
	s.Local, ok = parseHexAddress(words[1])
	inode, err := strconv.ParseUint(words[9], 10, 64)
	s.Inode = inode
	return s, words[3] == listening, ok && err == nil
}

// parseHexAddress reads 0100007F:CA6C, whose address is of words of four bytes in the machine's own order.
func parseHexAddress(text string) (netip.AddrPort, bool) {
	address, port, found := strings.Cut(text, ":")
	bytes, err := hex.DecodeString(address)
	number, err2 := strconv.ParseUint(port, 16, 16)
	if !found || err != nil || err2 != nil || len(bytes) != 4 && len(bytes) != 16 {
		return netip.AddrPort{}, false
	}
	for i := 0; littleEndian && i < len(bytes); i += 4 {
		bytes[i], bytes[i+1], bytes[i+2], bytes[i+3] = bytes[i+3], bytes[i+2], bytes[i+1], bytes[i]
	}
	a, _ := netip.AddrFromSlice(bytes)
	return netip.AddrPortFrom(a, uint16(number)), true
}

// findOwners looks through what all processes hold open, as far as this one may.
func findOwners(all []Socket) {
	if len(all) == 0 {
		return
	}
	byInode := make(map[string]*Socket)
	for i := range all {
		byInode[fmt.Sprintf("socket:[%d]", all[i].Inode)] = &all[i]
	}
	files, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is right
	for _, file := range files {
		open, err := os.Readlink(file)
		if err != nil {
			continue
		}
		s := byInode[open]
		if s == nil || s.PID != 0 {
			continue
		}
		s.PID, _ = strconv.Atoi(strings.Split(file, "/")[2])
		s.Program = programOf(s.PID)
	}
}

func programOf(pid int) string {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "?"
	}
	return strings.TrimSpace(string(comm))
}

// checkPort: before `up` the ports must be free.
func checkPort(m *Machine, t *Tunnel) []Finding {
	if t.Status != nil || t.File == nil {
		return nil
	}
	in := &t.File.Interface
	var found []Finding
	if in.ListenPort != nil && *in.ListenPort != 0 {
		found = t.checkPort(m, "udp", "ListenPort", "Endpoint", *in.ListenPort)
	}
	if in.ListenTCP != 0 {
		found = append(found, t.checkPort(m, "tcp", "ListenTCP", "EndpointTCP", in.ListenTCP)...)
	}
	return found
}

func (t *Tunnel) checkPort(m *Machine, network, key, endpoint string, port uint16) []Finding {
	for _, s := range m.Sockets {
		if !s.Overlaps(network, t.File.Interface.ListenAddress, port) || t.File.Interface.BindDevice != "" {
			continue // with a device of its own it may be free all the same
		}
		f := Finding{
			ID: "port_taken", What: fmt.Sprintf("%s port %d is taken by %s", strings.ToUpper(network), port, s.owner()),
			Evidence: []Evidence{{"/proc/net/" + network, fmt.Sprintf("%s, inode %d", s.Local, s.Inode)}},
			Remedies: []Remedy{{Why: fmt.Sprintf("%s: another %s (and in the %s of the peers), or end that program", t.Path, key, endpoint)}},
		}
		if s.PID != 0 {
			f.Evidence = append(f.Evidence, Evidence{fmt.Sprintf("/proc/%d/fd", s.PID), fmt.Sprintf("socket:[%d]", s.Inode)})
			f.Remedies = append(f.Remedies, Remedy{fmt.Sprintf("kill %d", s.PID), "ends it, if nobody needs it"})
		} else {
			f.Remedies = append(f.Remedies, Remedy{"sudo ss -ltunp", "shows which it is"})
		}
		return one(f)
	}
	return nil
}

// littleEndian is the byte order of this machine.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1
