package main

import (
	"fmt"

	"stunnel/device/netconf"
)

// fits is what the engine tells of how much a packet inside may have: the latest word, which waits for whoever follows it.
type fits struct{ told chan int }

func newFits() fits { return fits{make(chan int, 1)} }

// tell replaces what waits. One caller at a time.
func (f fits) tell(mtu int) {
	select {
	case <-f.told:
	default:
	}
	f.told <- mtu
}

// followMTU has the interface's MTU follow what is measured to fit the paths to peers, until the tunnel is halted, or
// somebody else has set it: then it is theirs. It never is more than the ways to the endpoints leave room for by wg-quick's
// rule, nor less than IPv6 needs.
func (u *upward) followMTU(now int) {
	t := u.tunnel
	t.goroutines.Go(func() {
		for {
			var mtu int
			select {
			case <-t.halted:
				return
			case mtu = <-t.fits.told:
			}
			mtu = min(mtu, u.mtu())
			if u.hasIPv6() {
				mtu = max(mtu, leastIPv6MTU)
			}
			s := &netconf.MTU{Interface: u.file.Name, Bytes: mtu}
			done, err := s.Look(u.net)
			switch {
			case err != nil:
				u.log.Warn("the MTU does not follow what the paths to peers carry", "error", err)
				return
			case s.Before != now:
				u.log.Info(fmt.Sprintf("somebody has set the MTU to %d, and it stays so", s.Before))
				return
			case done:
				continue
			}
			if err := s.Make(u.net); err != nil {
				u.log.Warn("the MTU does not follow what the paths to peers carry", "error", err)
				return
			}
			now = mtu
			u.log.Info(fmt.Sprintf("MTU %d, since that is what the paths to peers carry", mtu))
		}
	})
}
