//go:build faults

package netconf

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// In a build with this tag STUNNEL_FAULT lets a journal's step fail, or be the last that the process does:
// "error:before:3", "kill:after:1". The steps count from 1.
func init() {
	spec := os.Getenv("STUNNEL_FAULT")
	faults = func(step int, when moment) error {
		switch spec {
		case fmt.Sprintf("error:%s:%d", when, step):
			return fmt.Errorf("a fault was asked for: %s", spec)
		case fmt.Sprintf("kill:%s:%d", when, step):
			_ = unix.Kill(unix.Getpid(), unix.SIGKILL)
			select {}
		}
		return nil
	}
}
