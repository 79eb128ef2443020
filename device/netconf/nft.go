package netconf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ErrNoNftables: the kernel has no nftables, or not what of it is needed.
var ErrNoNftables = errors.New("this kernel lacks nftables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET, CONFIG_NFT_CT, CONFIG_NFT_FIB_INET)")

// nftTime is what the kernel gets for an answer. Where it refuses one message of several the library may wait for an answer too
// many.
const nftTime = 5 * time.Second

// nft talks to nf_tables in the Handle's network namespace, over a socket for each call.
func (h *Handle) nft() (*nftables.Conn, error) { return nftables.New(h.nftOptions()...) }

func (h *Handle) nftOptions() []nftables.ConnOption {
	options := []nftables.ConnOption{nftables.WithSockOptions(func(c *netlink.Conn) error { return c.SetReadDeadline(time.Now().Add(nftTime)) })}
	if here, err := namespaceID(); err != nil || here != h.netns { // to enter where one is already needs rights, too
		options = append(options, nftables.WithNetNSFd(int(h.namespace.Fd())))
	}
	return options
}

// lookTable fails if there is such a table: it is not ours, and we change none of others.
func (h *Handle) lookTable(t *nftables.Table) error {
	c, err := h.nft()
	if err != nil {
		return err
	}
	there, err := c.ListTablesOfFamily(t.Family)
	if err != nil {
		return refusedByNft("list the tables of nftables", err)
	}
	for _, other := range there {
		if other.Name == t.Name {
			return fmt.Errorf("there is an nft table inet %s already, which no journal knows (nft delete table inet %s removes it): %w", t.Name, t.Name, unix.EEXIST)
		}
	}
	return nil
}

// Tabled is a step whose change is a table of nftables of our own, of both families. A reload of another firewall takes it away
// as well (nft flush ruleset).
type Tabled interface {
	Step
	Table() string // its name
}

// RestoreTables makes those again that are gone, and tells which. A kill switch that was lifted (LiftKillSwitch) stays so.
func (h *Handle) RestoreTables(steps []Tabled) (restored []Tabled, err error) {
	c, err := h.nft()
	if err != nil {
		return nil, err
	}
	there, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, refusedByNft("list the tables of nftables", err)
	}
	for _, s := range steps {
		if slices.ContainsFunc(there, func(t *nftables.Table) bool { return t.Name == s.Table() }) {
			continue
		}
		made, failed := true, error(nil)
		if k, is := s.(*KillSwitch); is {
			made, failed = k.restore(h)
		} else {
			failed = s.Make(h)
		}
		if err = errors.Join(err, failed); made && failed == nil {
			restored = append(restored, s)
		}
	}
	return restored, err
}

// deleteTable deletes a table with all that is in it.
func (h *Handle) deleteTable(t *nftables.Table) error {
	c, err := h.nft()
	if err != nil {
		return err
	}
	c.DelTable(t)
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete nft table %s: %w", t.Name, err)
	}
	return nil
}

// refusedByNft tells a kernel that can't from one that does not want to.
func refusedByNft(what string, err error) error {
	if err == nil {
		return nil
	}
	for _, lacking := range []unix.Errno{unix.EPROTONOSUPPORT, unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.ENOENT} {
		if errors.Is(err, lacking) {
			return fmt.Errorf("%s: %w: %w", what, ErrNoNftables, err)
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// native32 is how nftables compares and sets numbers that are the machine's own.
func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
