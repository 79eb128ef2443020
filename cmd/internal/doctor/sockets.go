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

// Socket is a UDP socket of any program.
type Socket struct {
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

// readSockets reads /proc/net/udp and udp6 (proc(5)), and looks for the owners in /proc/*/fd.
func readSockets() (all []Socket, err error) {
	for _, path := range []string{"/proc/net/udp", "/proc/net/udp6"} {
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
			if s, ok := parseSocket(lines.Text()); ok {
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

// parseSocket reads a line: number, local address, remote address, and the inode as the tenth word.
func parseSocket(line string) (s Socket, ok bool) {
	words := strings.Fields(line)
	if len(words) < 10 {
		return s, false
	}
	s.Local, ok = parseHexAddress(words[1])
	inode, err := strconv.ParseUint(words[9], 10, 64)
	s.Inode = inode
	return s, ok && err == nil
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

// checkPort: before `up` the port must be free, and while the tunnel is up it must be the tunnel's.
func checkPort(m *Machine, t *Tunnel) []Finding {
	if t.Status != nil || t.File == nil || t.File.Interface.ListenPort == nil || *t.File.Interface.ListenPort == 0 {
		return nil
	}
	port := *t.File.Interface.ListenPort
	for _, s := range m.Sockets {
		if s.Local.Port() != port {
			continue
		}
		f := Finding{
			ID: "port_taken", What: fmt.Sprintf("UDP port %d is taken by %s", port, s.owner()),
			Evidence: []Evidence{{"/proc/net/udp", fmt.Sprintf("%s, inode %d", s.Local, s.Inode)}},
			Remedies: []Remedy{{Why: fmt.Sprintf("%s: another ListenPort (and in the Endpoint of the peers), or end that program", t.Path)}},
		}
		if s.PID != 0 {
			f.Evidence = append(f.Evidence, Evidence{fmt.Sprintf("/proc/%d/fd", s.PID), fmt.Sprintf("socket:[%d]", s.Inode)})
			f.Remedies = append(f.Remedies, Remedy{fmt.Sprintf("kill %d", s.PID), "ends it, if nobody needs it"})
		} else {
			f.Remedies = append(f.Remedies, Remedy{"sudo ss -lunp", "shows which it is"})
		}
		return one(f)
	}
	return nil
}

// littleEndian is the byte order of this machine.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1
