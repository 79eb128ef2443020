package main

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
)

// shown is what show --json tells of one interface.
func (b *box) shown(name string) jsonInterface {
	b.t.Helper()
	var j jsonShow
	if err := json.Unmarshal([]byte(b.sh(programVariable+"=1 exec -a stunnel /proc/"+strconv.Itoa(os.Getpid())+"/exe show --json "+name)), &j); err != nil {
		b.t.Fatal(err)
	}
	if len(j.Interfaces) != 1 {
		b.t.Fatalf("show tells %+v", j)
	}
	return j.Interfaces[0]
}

func (b *box) offloadsOf(name string) map[string]string {
	b.t.Helper()
	offloads := b.shown(name).Offloads
	if offloads == nil {
		b.t.Fatal("show tells no offloads")
	}
	return offloads
}

func TestOffloadsAreToldAndCanBeSwitchedOff(t *testing.T) {
	b := newBox(t)
	for _, c := range []struct{ key, said string }{
		{"", "offloads in_use="},
		{"Offload = yes\n", "offloads in_use="},
		{"Offload = no\n", `offloads in_use=none not="gro: switched off; gso: switched off; vnet_hdr: switched off"`},
	} {
		p := b.start(nil, "stunnel", "up", b.tunnelFile("peer.conf", c.key)).untilReady()
		if !strings.Contains(p.said(), c.said) {
			t.Errorf("%q: %q is not said before ready:\n%s", c.key, c.said, p.said())
		}
		for name, why := range b.offloadsOf("peer") {
			if off := strings.HasSuffix(c.key, "no\n"); off != (why == "switched off") {
				t.Errorf("%q: %s is %q", c.key, name, why)
			}
		}
		header := strings.Contains(b.sh("ip -d link show peer"), "vnet_hdr on")
		if header != !strings.HasSuffix(c.key, "no\n") {
			t.Errorf("%q: the device has vnet_hdr: %v", c.key, header)
		}
		b.start(nil, "stunnel", "down", "peer").wants(0)
		p.wants(0)
		if n := strings.Count(p.said(), c.said); n != 1 {
			t.Errorf("%q: %q is said %d times, want once:\n%s", c.key, c.said, n, p.said())
		}
	}
}

func TestUserspaceTakesOffloadsFromTheEnvironment(t *testing.T) {
	b := newBox(t)
	b.start([]string{"STUNNEL_OFFLOAD=off"}, "stunnel", "userspace", "wg0").wants(1, "STUNNEL_OFFLOAD", "yes or no")
	b.start([]string{"STUNNEL_OFFLOAD=no"}, "stunnel", "userspace", "wg0").wants(0)
	if got := b.offloadsOf("wg0"); len(got) != 1 || got["vnet_hdr"] != "switched off" {
		t.Errorf("while down: %v", got)
	}
	b.start(nil, "stunnel", "down", "wg0").wants(0)
	b.start(nil, "stunnel", "userspace", "wg0").wants(0)
	if got := b.offloadsOf("wg0"); got["vnet_hdr"] != "" {
		t.Errorf("by default: %v", got)
	}
	b.start(nil, "stunnel", "down", "wg0").wants(0)

	// Another process has made the interface, with the header and without.
	for _, offload := range []string{"no", "yes"} {
		tun, l := b.descriptors("wg7")
		b.startFiles([]string{"WG_TUN_FD=3", "WG_UAPI_FD=4", "STUNNEL_OFFLOAD=" + offload}, []*os.File{tun, l}, "stunnel", "userspace", "wg7").wants(0)
		tun.Close()
		l.Close()
		want := map[string]string{"no": "switched off", "yes": "the interface has none"}[offload]
		if got := b.offloadsOf("wg7"); got["vnet_hdr"] != want {
			t.Errorf("%s: %v", offload, got)
		}
		ended := gone(t, b.pidOf("wg7"))
		b.sh("ip link delete wg7")
		ended()
	}
}
