package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// pings are the times of the echo requests that were answered.
type pings struct {
	sent  int
	times []time.Duration
}

func (p pings) String() string {
	if len(p.times) == 0 {
		return fmt.Sprintf("none of %d answered", p.sent)
	}
	sorted := slices.Sorted(slices.Values(p.times))
	return fmt.Sprintf("min %s, median %s, %d of %d answered", millis(sorted[0]), millis(sorted[len(sorted)/2]), len(sorted), p.sent)
}

// pingPatience is longer than a handshake takes whose first message was lost.
const pingPatience = 8 * time.Second

// ping sends echo requests from one host to an address, each after the answer to the one before, in packets of at least size
// bytes. Larger than the path takes they are not sent: the stack leaves it to nobody to cut them (path MTU discovery).
func ping(ctx context.Context, from *demoHost, to netip.Addr, count, size int) (pings, error) {
	network, local, request, answer := "ip4:icmp", from.inner4, icmp.Type(ipv4.ICMPTypeEcho), icmp.Type(ipv4.ICMPTypeEchoReply)
	protocol := 1
	if to.Is6() {
		network, local, request, answer = "ip6:ipv6-icmp", from.inner6, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
		protocol = 58
	}
	var c *icmp.PacketConn
	err := from.do(func() (err error) {
		c, err = icmp.ListenPacket(network, local.String())
		return err
	})
	if err != nil {
		return pings{}, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()

	p := pings{sent: count}
	buf := make([]byte, 1500)
	const headers = 20 + 8 // of IPv4 and ICMP
	for seq := range count {
		echo := &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: seq, Data: []byte(rand.Text())}
		if short := size - headers - len(echo.Data); short > 0 {
			echo.Data = append(echo.Data, make([]byte, short)...)
		}
		msg, err := (&icmp.Message{Type: request, Body: echo}).Marshal(nil)
		if err != nil {
			return pings{}, err
		}
		start := time.Now()
		if _, err := c.WriteTo(msg, &net.IPAddr{IP: to.AsSlice()}); err != nil {
			return pings{}, err
		}
		if err := c.SetReadDeadline(start.Add(pingPatience)); err != nil {
			return pings{}, err
		}
		for {
			n, _, err := c.ReadFrom(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return pings{}, err
			}
			took := time.Since(start)
			m, err := icmp.ParseMessage(protocol, buf[:n])
			if err != nil || m.Type != answer {
				continue // somebody else's
			}
			if got, ok := m.Body.(*icmp.Echo); ok && got.ID == echo.ID && got.Seq == seq && bytes.Equal(got.Data, echo.Data) {
				p.times = append(p.times, took)
				break
			}
		}
	}
	return p, nil
}

// chunkSize is how much the sender writes at once, in bytes.
const chunkSize = 256 << 10

// transfer sends size bytes over TCP between the hosts' IPv4 addresses and compares the hashes of what went in and what
// came out. The time goes from the first byte in to the last one out.
func transfer(ctx context.Context, from, to *demoHost, size int64) (time.Duration, error) {
	var l *net.TCPListener
	err := to.do(func() (err error) {
		l, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(to.inner4, 0)))
		return err
	})
	if err != nil {
		return 0, err
	}
	defer l.Close()
	var out *net.TCPConn
	err = from.do(func() (err error) {
		out, err = net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr))
		return err
	})
	if err != nil {
		return 0, err
	}
	defer out.Close()
	in, err := l.AcceptTCP()
	if err != nil {
		return 0, err
	}
	defer in.Close()
	defer context.AfterFunc(ctx, func() { out.Close(); in.Close() })()

	// One seed for both: the hash is a fast one, as the sender and the receiver share the processor with the tunnel.
	var sent, received maphash.Hash
	received.SetSeed(sent.Seed())
	sending := make(chan error, 1)
	start := time.Now()
	go func() {
		err := send(out, &sent, size)
		sending <- errors.Join(err, out.CloseWrite())
	}()
	n, err := io.CopyBuffer(&received, struct{ io.Reader }{in}, make([]byte, chunkSize))
	took := time.Since(start)
	if err != nil {
		out.Close() // else the sender would wait for ever
	}
	if sendErr := <-sending; ctx.Err() != nil {
		return 0, ctx.Err()
	} else if err := errors.Join(sendErr, err); err != nil {
		return 0, err
	}
	if n != size {
		return 0, fmt.Errorf("%d bytes were sent, and %d arrived", size, n)
	}
	if sent.Sum64() != received.Sum64() {
		return 0, errors.New("what arrived is not what was sent: the hashes differ")
	}
	return took, nil
}

// send writes size bytes, random ones of which no two chunks are alike, and hashes them.
func send(w io.Writer, h *maphash.Hash, size int64) error {
	chunk := make([]byte, chunkSize)
	if _, err := rand.Read(chunk); err != nil {
		return err
	}
	for number := uint64(0); size > 0; number++ {
		binary.LittleEndian.PutUint64(chunk, number)
		part := chunk[:min(int64(len(chunk)), size)]
		if _, err := h.Write(part); err != nil {
			return err
		}
		if _, err := w.Write(part); err != nil {
			return err
		}
		size -= int64(len(part))
	}
	return nil
}
