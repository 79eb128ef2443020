package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"stunnel/test/lab"
)

// tools are what a host runs to move and check content.
var tools = map[string]func(args []string) error{
	// tool-sink LISTEN: says "listening", takes one connection to its end, and
	// prints the number and the hash of the bytes that came.
	"tool-sink": func(args []string) error {
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
		n, err := io.Copy(h, c)
		if err != nil {
			return err
		}
		fmt.Printf("got %d %s\n", n, hex.EncodeToString(h.Sum(nil)))
		return nil
	},
	// tool-hold-port PORT: takes the UDP port and keeps it.
	"tool-hold-port": func(args []string) error {
		if _, err := net.ListenPacket("udp", ":"+args[0]); err != nil {
			return err
		}
		fmt.Println("holding")
		select {}
	},
	// tool-send TO BYTES [BYTES PER SECOND]: sends random bytes, prints the same.
	"tool-send": func(args []string) error { return send(&net.Dialer{}, args) },
	// tool-send-options is tool-send with options in each IP header.
	"tool-send-options": func(args []string) error { return send(&net.Dialer{Control: withOptions}, args) },
	"tool-echo":         echo,
	"tool-exchange":     exchange,
	"tool-knock":        knock,
	"tool-watch":        watch,
	"tool-dns":          serveDNS,
	"tool-http":         serveHTTP,
	"tool-without-nft":  withoutNft,
	"tool-flows":        flows,
	"tool-pester":       pester,
	"tool-web":          web,
	"tool-advertise":    advertise,
	"tool-flow":         flow,
	"tool-pauses":       pauses,
	"tool-udp2tcp":      udp2tcp,
	"tool-tcp2udp":      tcp2udp,
	"tool-strangers":    strangers,
}

func send(dialer *net.Dialer, args []string) error {
	size, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	c, err := dialer.Dial("tcp", args[0])
	if err != nil {
		return err
	}
	var pace time.Duration
	const chunk = 64 << 10
	if len(args) > 2 {
		rate, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		pace = time.Second * chunk / time.Duration(rate)
	}
	h := sha256.New()
	source := rand.NewChaCha8([32]byte{1})
	for left := size; left > 0; {
		b := make([]byte, min(left, chunk))
		source.Read(b)
		h.Write(b)
		if _, err := c.Write(b); err != nil {
			return err
		}
		left -= int64(len(b))
		time.Sleep(pace) // the rate is what this tool is asked for
	}
	if err := c.Close(); err != nil {
		return err
	}
	fmt.Printf("got %d %s\n", size, hex.EncodeToString(h.Sum(nil)))
	return nil
}

// tool is the command line of a tool.
func tool(args ...string) []string {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return append([]string{self}, args...)
}

// transfer moves size random bytes over TCP to address on host to, and fails
// the test if what arrives is not what was sent.
func transfer(t *testing.T, from, to *lab.Host, address string, size int, during ...func()) {
	t.Helper()
	rate := []string{}
	if len(during) > 0 {
		rate = append(rate, "4000000") // long enough for something to happen during it
	}
	finish := beginTransfer(t, from, to, address, size, rate...)
	for _, f := range during {
		f()
	}
	finish()
}

// beginTransfer is the first half of transfer; what it returns is the second.
func beginTransfer(t *testing.T, from, to *lab.Host, address string, size int, rate ...string) (finish func()) {
	t.Helper()
	return beginTransferBy(t, "tool-send", from, to, address, size, rate...)
}

// beginTransferBy is beginTransfer with another sender.
func beginTransferBy(t *testing.T, sender string, from, to *lab.Host, address string, size int, rate ...string) (finish func()) {
	t.Helper()
	sink := to.Start(tool("tool-sink", address)...)
	sink.Await("listening")
	send := from.Start(tool(append([]string{sender, address, fmt.Sprint(size)}, rate...)...)...)
	return func() {
		t.Helper()
		if status := send.Wait(); status != 0 {
			t.Fatalf("sender ended with %d: %s", status, send.Output())
		}
		if status := sink.Wait(); status != 0 {
			t.Fatalf("receiver ended with %d: %s", status, sink.Output())
		}
		if got, want := strings.TrimPrefix(sink.Output(), "listening\n"), send.Output(); got != want {
			t.Fatalf("received %q, sent %q", got, want)
		}
	}
}
