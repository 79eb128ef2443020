package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"stunnel/cmd/internal/control"
	"stunnel/device/netconf"
)

func unlockCommand() *cli.Command {
	return &cli.Command{
		Name:      "unlock",
		Usage:     "lift the kill switch of a tunnel, or all kill switches",
		ArgsUsage: "[NAME or FILE]",
		Description: "A tunnel with KillSwitch = yes lets nothing leave the machine but through itself, and that stays so when\n" +
			"its process is killed. This lifts it, whether the tunnel runs or not, and changes nothing else: of a\n" +
			"tunnel that was killed `stunnel down NAME` takes back the rest.\n\n" +
			"Example:\n" +
			"   stunnel unlock\n" +
			"   stunnel unlock peer",
		Action: func(c *cli.Context) error {
			h, err := netconf.New()
			if err != nil {
				return err
			}
			defer h.Close()
			return openHint(unlock(h, c.App.ErrWriter, interfaceName(c.Args().First())), strings.TrimSpace("stunnel unlock "+c.Args().First()))
		},
	}
}

// unlock lifts the kill switch of the interface, or of all if name is "".
func unlock(h *netconf.Handle, stderr io.Writer, name string) error {
	inForce, err := h.KillSwitches()
	if err != nil {
		return err
	}
	if name != "" && !slices.Contains(inForce, name) {
		err := fmt.Errorf("%s has no kill switch in force", name)
		if len(inForce) > 0 {
			return withHint(err, "in force are those of "+strings.Join(inForce, ", "))
		}
		return err
	}
	if len(inForce) == 0 {
		fmt.Fprintln(stderr, "stunnel: no kill switch is in force; nothing was changed")
		return nil
	}
	var errs []error
	for _, n := range inForce {
		if name != "" && n != name {
			continue
		}
		if _, err := h.LiftKillSwitch(n); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintf(stderr, "stunnel: the kill switch of %s is lifted: packets may leave by any way again; %s\n", printable(n), afterUnlock(n))
	}
	return errors.Join(errs...)
}

// afterUnlock says what is left of the tunnel whose kill switch was lifted.
func afterUnlock(name string) string {
	c, err := control.Dial(name)
	if err != nil {
		return fmt.Sprintf("its tunnel does not run (stunnel down %s takes back what else it may have left)", name)
	}
	c.Close()
	return "its tunnel runs on without it"
}
