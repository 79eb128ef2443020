package doctor

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

const tunPath = "/dev/net/tun"

// openTUN opens the TUN driver and asks it something. Nothing is made by that.
func openTUN() error {
	fd, err := unix.Open(tunPath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	flags, err := unix.IoctlGetUint32(fd, unix.TUNGETFEATURES)
	if err != nil {
		return fmt.Errorf("TUNGETFEATURES: %w", err)
	}
	if flags&unix.IFF_TUN == 0 {
		return errors.New("the driver has no TUN interfaces")
	}
	return nil
}

func checkTUN(m *Machine, _ *Tunnel) []Finding {
	if m.TUN == nil {
		return nil
	}
	f := Finding{ID: "no_tun", What: tunPath + " can't be opened, and without it there is no tunnel", Evidence: []Evidence{{tunPath, m.TUN.Error()}}}
	switch {
	case errors.Is(m.TUN, fs.ErrNotExist):
		f.Remedies = []Remedy{
			{"sudo modprobe tun", "loads the kernel's module, which makes the file"},
			{"docker run --device /dev/net/tun --cap-add NET_ADMIN", "gives it to a container"},
			{"sudo install -d /dev/net && sudo mknod -m 666 " + tunPath + " c 10 200", "makes the file where nothing else does"},
		}
	case errors.Is(m.TUN, fs.ErrPermission) && m.NetAdmin:
		f.Remedies = []Remedy{
			{"docker run --device /dev/net/tun", "lets a container use it"},
			{"sudo chmod 666 " + tunPath, "as it is on other systems: the right to make interfaces is another one"},
		}
	case errors.Is(m.TUN, fs.ErrPermission):
		return nil // for want of rights, which is said once
	default:
		f.Remedies = commands("sudo modprobe tun")
	}
	return one(f)
}

func checkRights(m *Machine, t *Tunnel) []Finding {
	if m.NetAdmin || t.Status != nil {
		return nil
	}
	return one(Finding{
		ID: "no_rights", What: "this user may not make interfaces, which up has to",
		Evidence: []Evidence{{"/proc/self/status", "CapEff without CAP_NET_ADMIN"}},
		Remedies: []Remedy{
			{"sudo stunnel up " + t.arg(), ""},
			{"docker run --cap-add NET_ADMIN", "gives a container's root the right"},
		},
	})
}

// checkName: the interface of that name has to be free, or a TUN that nobody has open.
func checkName(m *Machine, t *Tunnel) []Finding {
	link := m.link(t.Name)
	if t.Status != nil || link == nil {
		return nil
	}
	f := Finding{ID: "name_taken", Evidence: []Evidence{{"ip -d link show " + t.Name, "an interface of kind " + link.Kind}}}
	switch {
	case link.Kind == "wireguard":
		f.What = "the kernel's own WireGuard has an interface of that name"
		f.Remedies = []Remedy{{"sudo wg-quick down " + t.Name, "ends it"}, {"sudo wg show " + t.Name, "shows it"}}
	case link.Kind != "tuntap" && link.Kind != "tun":
		f.What = "another interface has that name"
		f.Remedies = []Remedy{{Why: "rename the file: the tunnel is named after it"}, {"sudo ip link delete " + t.Name, "if nobody needs that interface"}}
	case t.Holder != 0:
		f.What = fmt.Sprintf("the interface is in use: process %d has it open, and answers on no control socket", t.Holder)
		f.Evidence = append(f.Evidence, Evidence{fmt.Sprintf("/proc/%d/fdinfo", t.Holder), "iff: " + t.Name})
		f.Remedies = []Remedy{{fmt.Sprintf("sudo kill %d", t.Holder), "ends it; so does ip link delete " + t.Name}}
	default:
		return nil // a persistent one, made for us
	}
	return one(f)
}
