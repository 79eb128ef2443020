package doctor

import (
	"errors"
	"fmt"
	"strconv"

	"stunnel/cmd/internal/conf"
)

func procPath(pid int, below string) string { return "/proc/" + strconv.Itoa(pid) + "/" + below }

// checkFaults has a finding for each thing that is wrong with the configuration file, as check tells them.
func checkFaults(_ *Machine, t *Tunnel) (found []Finding) {
	if t.Faults == nil {
		return nil
	}
	all := []error{t.Faults}
	if j, ok := t.Faults.(interface{ Unwrap() []error }); ok {
		all = j.Unwrap()
	}
	for _, err := range all {
		f := Finding{ID: "configuration", What: "the configuration is wrong", Evidence: []Evidence{{t.Path, err.Error()}}}
		if e := (*conf.Error)(nil); errors.As(err, &e) {
			if e.Line != 0 {
				f.Evidence[0].Source = fmt.Sprintf("%s:%d", t.Path, e.Line)
			}
			f.Evidence[0].Says = e.Msg
			if e.Hint != "" {
				f.Remedies = words(e.Hint)
			}
		}
		f.Remedies = append(f.Remedies, Remedy{"stunnel check " + t.arg(), "tells whether it is right then"})
		found = append(found, f)
	}
	return found
}
