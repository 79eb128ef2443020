package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stunnel/test/lab"
)

const (
	windowDatagrams = 16   // that are under way at a time: no buffer on the way is too small for them
	segmentSize     = 1300 // of those that the kernel cuts
	longestDatagram = 1364 // over IPv6 with 8 bytes of options in an MTU of 1420
	datagramWait    = 10 * time.Second
)

// echo is tool-echo LISTEN: says "listening" and sends each datagram back.
func echo(args []string) error {
	c, err := net.ListenPacket("udp", args[0])
	if err != nil {
		return err
	}
	fmt.Println("listening")
	b := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return err
		}
		if _, err := c.WriteTo(b[:n], from); err != nil {
			return err
		}
	}
}

// exchange is tool-exchange TO BYTES [options]: sends random datagrams to a
// tool-echo, a window at a time, and compares what comes back. Every other
// window leaves as one packet that the kernel cuts (UDP_SEGMENT); the others are
// of random sizes. options: with options in each IP header.
func exchange(args []string) error {
	size, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	var d net.Dialer
	if len(args) > 2 {
		d.Control = withOptions
	}
	dialed, err := d.Dial("udp", args[0])
	if err != nil {
		return err
	}
	c := dialed.(*net.UDPConn)
	sent, received := sha256.New(), sha256.New()
	source := rand.NewChaCha8([32]byte{2})
	random := rand.New(source)
	b := make([]byte, 1<<16)
	for done, round := 0, 0; done < size; round++ {
		window := make([][]byte, windowDatagrams)
		for i := range window {
			n := segmentSize
			if round%2 > 0 {
				n = 1 + random.IntN(longestDatagram)
			}
			window[i] = make([]byte, n)
			source.Read(window[i])
			sent.Write(window[i])
			done += n
		}
		if err := sendWindow(c, window, round%2 == 0 && d.Control == nil); err != nil {
			return err
		}
		if err := c.SetReadDeadline(time.Now().Add(datagramWait)); err != nil {
			return err
		}
		for i := range window {
			n, err := c.Read(b)
			if err != nil {
				return fmt.Errorf("round %d, datagram %d of %d bytes: %w", round, i, len(window[i]), err)
			}
			if !bytes.Equal(b[:n], window[i]) {
				return fmt.Errorf("round %d, datagram %d came back as %d bytes, was sent as %d, or they differ", round, i, n, len(window[i]))
			}
			received.Write(b[:n])
		}
	}
	if !bytes.Equal(sent.Sum(nil), received.Sum(nil)) {
		return errors.New("what came back is not what was sent")
	}
	fmt.Printf("exchanged %d %s\n", size, hex.EncodeToString(sent.Sum(nil)))
	return nil
}

// sendWindow sends datagrams one by one or, if they are cut, as one that the
// kernel is to cut.
func sendWindow(c *net.UDPConn, window [][]byte, cut bool) error {
	if !cut {
		for _, b := range window {
			if _, err := c.Write(b); err != nil {
				return err
			}
		}
		return nil
	}
	// A struct cmsghdr with a uint16.
	control := make([]byte, unix.CmsgSpace(2))
	h := (*unix.Cmsghdr)(bytesPointer(control))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	*(*uint16)(bytesPointer(control[unix.CmsgLen(0):])) = segmentSize
	_, _, err := c.WriteMsgUDP(bytes.Join(window, nil), control, nil)
	return err
}

// withOptions gives a socket options that do nothing: in IPv4's header, or in a
// destination options header of IPv6. Its checksums do not begin where those of
// others do.
func withOptions(network, _ string, c syscall.RawConn) error {
	var err error
	controlErr := c.Control(func(fd uintptr) {
		if strings.HasSuffix(network, "6") {
			// next header, length in 8 bytes less one, PadN of 6 bytes
			err = unix.SetsockoptString(int(fd), unix.IPPROTO_IPV6, unix.IPV6_DSTOPTS, "\x00\x00\x01\x04\x00\x00\x00\x00")
		} else {
			err = unix.SetsockoptString(int(fd), unix.IPPROTO_IP, unix.IP_OPTIONS, "\x01\x01\x01\x01") // four NOP
		}
	})
	return errors.Join(controlErr, err)
}

// knock is tool-knock TO NUMBER: sends so many datagrams to where nobody answers.
func knock(args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	to, err := net.ResolveUDPAddr("udp", args[0])
	if err != nil {
		return err
	}
	// Not connected, or what is refused would be told in the place of the next.
	c, err := net.ListenUDP("udp", nil)
	if err != nil {
		return err
	}
	for i := range n {
		if _, err := c.WriteTo([]byte(strings.Repeat("knock ", i)), to); err != nil {
			return err
		}
	}
	return nil
}

// converse moves size bytes over UDP to a host and back, and fails the test if
// they are not the same.
func converse(t *testing.T, from, to *lab.Host, address string, size int, options ...string) {
	t.Helper()
	e := to.Start(tool("tool-echo", address)...)
	e.Await("listening")
	if out, err := from.Try(tool(append([]string{"tool-exchange", address, fmt.Sprint(size)}, options...)...)...); err != nil {
		t.Fatalf("%s to %s at %s: %v\n%s", from.Name, to.Name, address, err, out)
	}
	e.Kill()
}
