package netconf

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const validMark = "net/ipv4/conf/all/src_valid_mark"

func sysctlFor(name string) *Sysctl { return &Sysctl{Key: validMark, Value: "1", For: name} }

// wantSysctl checks the value of src_valid_mark, and whether someone is its owner.
func (h host) wantSysctl(value string, owned bool, when string) {
	h.t.Helper()
	if now, err := sysctlFor("").read(); now != value || err != nil {
		h.t.Errorf("%s: it is %s, want %s (%v)", when, now, value, err)
	}
	if got, err := h.claimed(sysctlFor("").thing()); got != owned || err != nil {
		h.t.Errorf("%s: claimed %v, want %v (%v)", when, got, owned, err)
	}
}

func TestASharedSysctlComesBackWithItsLastOwner(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {1, 2, 0}} {
		inNamespace(t, func(h host) {
			h.wantSysctl("0", false, "at first")
			var back []undo
			for _, name := range []string{"tun0", "tun1", "tun2"} {
				back = append(back, h.took(sysctlFor(name)))
				h.wantSysctl("1", true, "with "+name)
			}
			for i, n := range order {
				if err := back[n](); err != nil {
					t.Error(err)
				}
				if err := back[n](); err != nil { // as after a kill between undo and crossing out
					t.Error(err)
				}
				if last := i == len(order)-1; last {
					h.wantSysctl("0", false, "after the last")
				} else {
					h.wantSysctl("1", true, "with owners left")
				}
			}
		})
	}
}

func TestASysctlThatWasRightBeforeIsNotOurs(t *testing.T) {
	inNamespace(t, func(h host) {
		h.must(nil, sysctlFor("").set("1"))
		u := h.took(sysctlFor("tun0"))
		h.wantSysctl("1", false, "taken")
		if err := u(); err != nil {
			t.Error(err)
		}
		h.wantSysctl("1", false, "undone")
	})
}

func TestASysctlThatSomebodyElseHasChangedSinceStaysAsHeWantsIt(t *testing.T) {
	inNamespace(t, func(h host) {
		s := &Sysctl{Key: "net/ipv4/conf/all/rp_filter", Value: "1", For: "tun0"}
		u := h.took(s)
		h.must(nil, s.set("2"))
		if err := u(); err != nil {
			t.Error(err)
		}
		if now, _ := s.read(); now != "2" {
			t.Errorf("it is %s", now)
		}
	})
}

func TestASysctlThatCannotBeWrittenIsExplainedAndNothingIsLeft(t *testing.T) {
	inNamespace(t, func(h host) {
		h.must(nil, unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""))
		h.must(nil, unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		err := h.Apply(sysctlFor("tun0"))
		if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), "net.ipv4.conf.all.src_valid_mark") {
			t.Errorf("error %v", err)
		}
		h.wantSysctl("0", false, "after the failure")
		if left, err := os.ReadDir(h.stateDir()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("left %v, %v", left, err)
		}
	})
}

func TestAClaimOfAnEarlierBootDoesNotHold(t *testing.T) {
	inNamespace(t, func(h host) {
		h.must(nil, os.MkdirAll(h.stateDir(), 0o755))
		h.must(nil, os.WriteFile(h.stateDir()+"/"+sysctlFor("").thing()+".json", []byte(`{"boot":"other","original":"7","owners":["tun9"]}`), 0o600))
		h.must(nil, os.WriteFile(h.stateDir()+"/mark.1234.json", []byte(`{"boot":"other","original":"","owners":["tun0"]}`), 0o600))
		back := h.took(sysctlFor("tun0"))
		h.wantSysctl("1", true, "with tun0")
		h.must(nil, back())
		h.wantSysctl("0", false, "after all")
		m := &Mark{Interface: "tun0", Mark: 0x1234}
		h.must(nil, m.Make(h.Handle))
		h.must(nil, m.Undo(h.Handle))
	})
}
