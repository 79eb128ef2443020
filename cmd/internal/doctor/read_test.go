package doctor

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestSocketsAreReadAsTheKernelWritesThem(t *testing.T) {
	if !littleEndian {
		t.Skip("the lines are those of a little-endian machine")
	}
	for _, c := range []struct {
		line    string
		want    Socket
		listens bool
	}{
		{"  11: 0100007F:CA6C 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 20731 2 0000000000000000 0",
			Socket{Local: netip.MustParseAddrPort("127.0.0.1:51820"), Inode: 20731}, false},
		{"  5: B80D0120000000000000000001000000:0035 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 9 2 0000000000000000 0",
			Socket{Local: netip.MustParseAddrPort("[2001:db8::1]:53"), Inode: 9}, false},
		{"   0: 0100007F:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 9 1 0000000000000000 100 0 0 10 0",
			Socket{Local: netip.MustParseAddrPort("127.0.0.1:443"), Inode: 9}, true},
	} {
		if got, listens, ok := parseSocket(c.line); !ok || got != c.want || listens != c.listens {
			t.Errorf("%+v %v, want %+v", got, ok, c.want)
		}
	}
	for _, line := range []string{"", "  sl  local_address rem_address   st", "1: 0100007F 0:0 07 0:0 0:0 0 0 0 1", "1: XX00007F:1 0:0 07 0:0 0:0 0 0 0 1"} {
		if got, _, ok := parseSocket(line); ok {
			t.Errorf("%q gives %+v", line, got)
		}
	}
}

func TestAPortIsTakenWhereItsAddressesMeet(t *testing.T) {
	for _, c := range []struct {
		taken   string
		address string // "": all
		want    bool
	}{
		{"0.0.0.0:7", "", true},
		{"[::]:7", "", true},
		{"192.0.2.1:7", "", true},
		{"192.0.2.1:8", "", false},
		{"192.0.2.1:7", "192.0.2.1", true},
		{"[::ffff:192.0.2.1]:7", "192.0.2.1", true},
		{"192.0.2.1:7", "192.0.2.2", false},
		{"0.0.0.0:7", "192.0.2.1", true},
		{"[::]:7", "192.0.2.1", true},
		{"0.0.0.0:7", "2001:db8::1", false},
		{"[::]:7", "2001:db8::1", true},
		{"[fe80::1]:7", "fe80::1%eth0", true},
	} {
		var address netip.Addr
		if c.address != "" {
			address = netip.MustParseAddr(c.address)
		}
		s := Socket{Network: "udp", Local: netip.MustParseAddrPort(c.taken)}
		if got := s.Overlaps("udp", address, 7); got != c.want {
			t.Errorf("%s is taken, and %q wanted: %v", c.taken, c.address, got)
		}
		if s.Overlaps("tcp", address, 7) {
			t.Errorf("%s of UDP is in the way of TCP", c.taken)
		}
	}
}

func TestSamplesLieInTheirPrefix(t *testing.T) {
	for _, c := range []struct {
		prefix string
		want   []string
	}{
		{"10.9.0.2/32", []string{"10.9.0.2"}},
		{"10.9.0.0/24", []string{"10.9.0.1", "10.9.0.254"}},
		{"10.9.0.0/31", []string{"10.9.0.1", "10.9.0.1"}},
		{"fd09::/64", []string{"fd09::1", "fd09::ffff:ffff:ffff:ffff"}},
		{"128.0.0.0/1", []string{"128.0.0.1", "255.255.255.254"}},
	} {
		var got []string
		for _, a := range samples(netip.MustParsePrefix(c.prefix)) {
			got = append(got, a.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.prefix, got, c.want)
		}
	}
	for _, all := range []string{"0.0.0.0/0", "::/0"} {
		for _, a := range samples(netip.MustParsePrefix(all)) {
			if !a.IsGlobalUnicast() || a.IsPrivate() {
				t.Errorf("%s: %s is no address of the Internet", all, a)
			}
		}
	}
}

func TestCountersAreFoundByName(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	snmp := write("snmp", "Ip: Forwarding InAddrErrors\nIp: 2 17\nIcmp: InMsgs InErrors\nIcmp: 4 5\n")
	plain := write("tun0", "Ip6InReceives   \t7\nIp6InAddrErrors \t3\n")
	for _, c := range []struct {
		path, section, name string
		want                uint64
	}{
		{snmp, "Ip", "InAddrErrors", 17}, {snmp, "Icmp", "InErrors", 5}, {snmp, "Ip", "InErrors", 0}, {snmp, "Tcp", "InErrors", 0},
		{plain, "", "Ip6InAddrErrors", 3}, {filepath.Join(dir, "absent"), "", "x", 0},
	} {
		if got := readCounter(c.path, c.section, c.name); got != c.want {
			t.Errorf("%s %s: %d, want %d", c.section, c.name, got, c.want)
		}
	}
}

func TestNameServersAreReadFromResolvConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	text := "# comment\nnameserver 192.0.2.53\nsearch example\nnameserver 2001:db8::53 # second\nnameserver nonsense\nnameserver\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readServers(path)
	want := []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("2001:db8::53")}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %v, want %v", got, err, want)
	}
}
