package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// serveDNS ADDRESS NAME=ADDRESS...: a name server for A and AAAA records, over
// UDP and TCP, which may be kept for a second. It says "serving", then "asked
// NAME TYPE by ADDRESS" for each question. @FILE is a zone that may change: the
// file is read again for each question.
func serveDNS(args []string) error {
	z := zone(args[1:])
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
			go serveStream(c, z)
		}
	}()
	fmt.Println("serving")
	buffer := make([]byte, 4096)
	for {
		n, from, err := packets.ReadFrom(buffer)
		if err != nil {
			return err
		}
		answer, err := answerDNS(buffer[:n], from, z)
		if err != nil {
			fmt.Println("no question:", err)
			continue
		}
		if _, err := packets.WriteTo(answer, from); err != nil {
			fmt.Println("no answer:", err)
		}
	}
}

func serveStream(c net.Conn, z zone) {
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
		answer, err := answerDNS(question, c.RemoteAddr(), z)
		if err != nil {
			return
		}
		c.Write(append([]byte{byte(len(answer) >> 8), byte(len(answer))}, answer...))
	}
}

// zone is NAME=ADDRESS, any number, or @FILE, where they stand.
type zone []string

// addresses are those of a name, which ends in a dot.
func (z zone) addresses(name string) (found []netip.Addr) {
	for _, record := range z {
		if path, is := strings.CutPrefix(record, "@"); is {
			text, err := os.ReadFile(path)
			if err != nil {
				fmt.Println("no zone:", err)
			}
			found = append(found, zone(strings.Fields(string(text))).addresses(name)...)
		} else if n, address, _ := strings.Cut(record, "="); n+"." == name {
			found = append(found, netip.MustParseAddr(address))
		}
	}
	return found
}

func answerDNS(question []byte, from net.Addr, z zone) ([]byte, error) {
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
	found := z.addresses(asked)
	if len(found) == 0 {
		m.Header.RCode = dnsmessage.RCodeNameError
	}
	for _, address := range found {
		var body dnsmessage.ResourceBody
		switch {
		case address.Is4() && q.Type == dnsmessage.TypeA:
			body = &dnsmessage.AResource{A: address.As4()}
		case address.Is6() && q.Type == dnsmessage.TypeAAAA:
			body = &dnsmessage.AAAAResource{AAAA: address.As16()}
		default:
			continue
		}
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
			Body:   body,
		})
	}
	return m.Pack()
}
