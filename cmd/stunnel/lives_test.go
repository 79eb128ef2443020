package main

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// answerOf is the answer to a question in wire format: an alias that holds for alias seconds, and the address of what it
// stands for, which holds for address seconds.
func answerOf(t *testing.T, question []byte, alias, address uint32) []byte {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		t.Error(err)
		return nil
	}
	m.Header.Response, m.Header.RecursionAvailable = true, true
	m.Additionals = nil
	q := m.Questions[0]
	real := dnsmessage.MustNewName("real.example.")
	if q.Type == dnsmessage.TypeA {
		m.Answers = []dnsmessage.Resource{
			{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: alias}, Body: &dnsmessage.CNAMEResource{CNAME: real}},
			{Header: dnsmessage.ResourceHeader{Name: real, Class: q.Class, TTL: address}, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}},
		}
	}
	packed, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return packed
}

func TestTheShortestLifeOfAnAnswerIsReadAsItPasses(t *testing.T) {
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := server.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			server.WriteToUDPAddrPort(answerOf(t, b[:n], 300, 7), from)
		}
	}()
	var l lives
	r := net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		c, err := net.DialUDP("udp4", nil, server.LocalAddr().(*net.UDPAddr))
		return &answering{c, &l}, err
	}}
	addrs, err := r.LookupNetIP(t.Context(), "ip4", "vpn.example.")
	if err != nil || len(addrs) != 1 || addrs[0].Unmap() != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("%v, %v", addrs, err)
	}
	if got := l.shortest(); got != 7*time.Second {
		t.Errorf("it holds for %v", got)
	}
}

func TestWhatIsNoAnswerHasNoLife(t *testing.T) {
	question, err := (&dnsmessage.Message{Questions: []dnsmessage.Question{
		{Name: dnsmessage.MustNewName("vpn.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
	}}).Pack()
	if err != nil {
		t.Fatal(err)
	}
	whole := answerOf(t, question, 300, 7)
	var l lives
	for _, message := range [][]byte{nil, {1}, question, whole[:20], whole[:len(question)]} {
		if l.note(message); l.shortest() != 0 {
			t.Errorf("%x has a life of %v", message, l.shortest())
		}
	}
	if l.note(answerOf(t, question, 0, 9)); l.shortest() != time.Second {
		t.Errorf("one that is over at once holds for %v, which would mean that nothing is known", l.shortest())
	}
}
