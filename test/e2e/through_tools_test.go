package e2e

import (
	"crypto/sha256"
	endian "encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pauses is tool-pauses LISTEN: tool-sink that says "flowing" once the first
// megabyte is there, and before the last line the "longest pause" for which
// nothing has come.
func pauses(args []string) error {
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	fmt.Println("listening")
	c, err := l.Accept()
	if err != nil {
		return err
	}
	h := sha256.New()
	b := make([]byte, 64<<10)
	var longest time.Duration
	size, flowing, last := 0, false, time.Now()
	for {
		n, err := c.Read(b)
		now := time.Now()
		longest, last = max(longest, now.Sub(last)), now
		h.Write(b[:n])
		if size += n; size >= 1<<20 && !flowing {
			flowing = true
			fmt.Println("flowing")
		}
		if errors.Is(err, io.EOF) {
			fmt.Printf("longest pause %v\ngot %d %s\n", longest.Round(time.Millisecond), size, hex.EncodeToString(h.Sum(nil)))
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// flow is tool-flow TO BYTES PER SECOND: tool-send that goes on until it is ended
// (SIGTERM).
func flow(args []string) error {
	rate, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM)
	c, err := net.Dial("tcp", args[0])
	if err != nil {
		return err
	}
	h := sha256.New()
	source := content()
	b := make([]byte, 16<<10)
	tick := time.NewTicker(time.Second * time.Duration(len(b)) / time.Duration(rate))
	for size := 0; ; size += len(b) {
		select {
		case <-signals:
			if err := c.Close(); err != nil {
				return err
			}
			fmt.Printf("got %d %s\n", size, hex.EncodeToString(h.Sum(nil)))
			return nil
		case <-tick.C:
		}
		_, _ = source.Read(b)
		h.Write(b)
		if _, err := c.Write(b); err != nil {
			return err
		}
	}
}

// udp2tcp is tool-udp2tcp LISTEN TO: datagrams that come to the UDP address go
// over one TCP connection, each behind its length in two bytes, and back. It is
// written by what Mullvad's udp-over-tcp says of itself, and shares nothing with
// what it tests. It says "carrying".
func udp2tcp(args []string) error {
	u, err := net.ListenPacket("udp", args[0])
	if err != nil {
		return err
	}
	c, err := net.Dial("tcp", args[1])
	if err != nil {
		return err
	}
	fmt.Println("carrying")
	b := make([]byte, 1<<16)
	n, from, err := u.ReadFrom(b[2:])
	if err != nil {
		return err
	}
	go unframe(c, func(datagram []byte) error {
		_, err := u.WriteTo(datagram, from)
		return err
	})
	for {
		endian.BigEndian.PutUint16(b, uint16(n))
		if _, err := c.Write(b[:2+n]); err != nil {
			return err
		}
		if n, _, err = u.ReadFrom(b[2:]); err != nil {
			return err
		}
	}
}

// tcp2udp is tool-tcp2udp LISTEN TO: the other end of it. It takes connections,
// each of which is a client of the UDP server.
func tcp2udp(args []string) error {
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	fmt.Println("carrying")
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		u, err := net.Dial("udp", args[1])
		if err != nil {
			return err
		}
		go func() {
			unframe(c, func(datagram []byte) error {
				_, err := u.Write(datagram)
				return err
			})
			u.Close()
		}()
		go func() {
			b := make([]byte, 1<<16)
			for {
				n, err := u.Read(b[2:])
				if err != nil {
					c.Close()
					return
				}
				endian.BigEndian.PutUint16(b, uint16(n))
				if _, err := c.Write(b[:2+n]); err != nil {
					return
				}
			}
		}()
	}
}

// unframe hands on the messages of a stream until it ends. UDP may refuse some.
func unframe(r io.Reader, deliver func(datagram []byte) error) {
	var size [2]byte
	for {
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return
		}
		datagram := make([]byte, endian.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(r, datagram); err != nil {
			return
		}
		_ = deliver(datagram)
	}
}

// strangers is tool-strangers KIND TO COUNT FROM...: connects to a TCP port from
// each of these addresses in turn until COUNT connections were made (at most 64
// at a time, of silent and slow ones all), and does on each what its kind does:
//
//	silent   nothing
//	slow     sends a message that would have 148 bytes, a byte a second
//	garbage  sends 148 bytes that are no initiation, with a right length
//	http     asks for a web page
//	large    announces a message of 65,535 bytes, and sends a lot
//
// until the other end closes. It says "knocking", then how many connections were
// made, how many the other end has closed, how many bytes came back from it, how
// long the one that lived longest did, and how long it all took. A connection
// that is refused or reset at once counts as made and closed.
func strangers(args []string) error {
	kind, to := args[0], args[1]
	count, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	var (
		wait    sync.WaitGroup
		mu      sync.Mutex
		closed  int
		back    int64
		longest time.Duration
	)
	atATime := make(chan struct{}, 64)
	if kind == "silent" || kind == "slow" {
		atATime = make(chan struct{}, count) // they wait for nothing but the end
	}
	fmt.Println("knocking")
	begin := time.Now()
	for i := range count {
		from := netip.MustParseAddr(args[3+i%len(args[3:])])
		atATime <- struct{}{}
		wait.Go(func() {
			defer func() { <-atATime }()
			d := net.Dialer{Timeout: 20 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
			dialled := time.Now()
			n, ended := knockAt(&d, to, kind)
			mu.Lock()
			defer mu.Unlock()
			back += n
			longest = max(longest, time.Since(dialled))
			if ended {
				closed++
			}
		})
	}
	wait.Wait()
	fmt.Printf("%d %d %d %d %d\n", count, closed, back, longest.Milliseconds(), time.Since(begin).Milliseconds())
	return nil
}

// knockAt is what one stranger does; whether the other end has ended it, in 20 s
// at most.
func knockAt(d *net.Dialer, to, kind string) (back int64, closed bool) {
	c, err := d.Dial("tcp", to)
	if err != nil {
		return 0, errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ECONNRESET)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	message := make([]byte, 2+148)
	message[1], message[2] = 148, 1 // an initiation's length and type
	switch kind {
	case "slow":
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for i := range message {
				if _, err := c.Write(message[i : i+1]); err != nil {
					return
				}
				select {
				case <-tick.C:
				case <-stop:
					return
				}
			}
		}()
	case "garbage":
		_, _ = c.Write(message)
	case "http":
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: www.example.com\r\nAccept: */*\r\n\r\n")
	case "large":
		_, _ = c.Write(append([]byte{0xff, 0xff, 4, 0, 0, 0}, make([]byte, 64<<10)...))
	}
	back, err = io.Copy(io.Discard, c)
	return back, err == nil || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}
