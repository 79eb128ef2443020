package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// serveDNS ADDRESS NAME=ADDRESS...: a name server for A records, over UDP and
// TCP. It says "serving", then "asked NAME TYPE by ADDRESS" for each question.
func serveDNS(args []string) error {
	records := make(map[string]netip.Addr)
	for _, r := range args[1:] {
		name, address, _ := strings.Cut(r, "=")
		records[name+"."] = netip.MustParseAddr(address)
	}
	at := net.JoinHostPort(args[0], "53")
	packets, err := net.ListenPacket("udp", at)
	if err != nil {
		return err
	}
	streams, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := streams.Accept()
			if err != nil {
				return
			}
			go serveStream(c, records)
		}
	}()
	fmt.Println("serving")
	buffer := make([]byte, 4096)
	for {
		n, from, err := packets.ReadFrom(buffer)
		if err != nil {
			return err
		}
		answer, err := answerDNS(buffer[:n], from, records)
		if err != nil {
			fmt.Println("no question:", err)
			continue
		}
		if _, err := packets.WriteTo(answer, from); err != nil {
			fmt.Println("no answer:", err)
		}
	}
}

func serveStream(c net.Conn, records map[string]netip.Addr) {
	defer c.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		question := make([]byte, int(size[0])<<8|int(size[1]))
		if _, err := io.ReadFull(c, question); err != nil {
			return
		}
		answer, err := answerDNS(question, c.RemoteAddr(), records)
		if err != nil {
			return
		}
		c.Write(append([]byte{byte(len(answer) >> 8), byte(len(answer))}, answer...))
	}
}

func answerDNS(question []byte, from net.Addr, records map[string]netip.Addr) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		return nil, err
	}
	if len(m.Questions) != 1 {
		return nil, errors.New("not one question")
	}
	q := m.Questions[0]
	asked := strings.ToLower(q.Name.String())
	fmt.Printf("asked %s %s by %s\n", asked, strings.TrimPrefix(q.Type.String(), "Type"), from)
	m.Header.Response, m.Header.RecursionAvailable, m.Header.Authoritative = true, true, true
	m.Answers, m.Authorities, m.Additionals = nil, nil, nil
	address, known := records[asked]
	if !known {
		m.Header.RCode = dnsmessage.RCodeNameError
	} else if q.Type == dnsmessage.TypeA {
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
			Body:   &dnsmessage.AResource{A: address.As4()},
		}}
	}
	return m.Pack()
}
