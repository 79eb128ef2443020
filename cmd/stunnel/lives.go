package main

import (
	"net"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// lives are how long answers of name servers are to hold, which net.Resolver keeps to itself: they are read as they pass. Safe
// for concurrent use.
type lives struct {
	mu    sync.Mutex
	least time.Duration
}

// shortest of all; 0: there was none.
func (l *lives) shortest() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.least
}

// note looks at a message of a name server. One that is no such thing has no say: the resolver judges it.
func (l *lives) note(message []byte) {
	var p dnsmessage.Parser
	header, err := p.Start(message)
	if err != nil || !header.Response || p.SkipAllQuestions() != nil {
		return
	}
	for {
		r, err := p.AnswerHeader()
		if err != nil {
			return
		}
		switch r.Type {
		case dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeCNAME:
			l.add(max(time.Duration(r.TTL)*time.Second, time.Second))
		}
		if p.SkipAnswer() != nil {
			return
		}
	}
}

func (l *lives) add(life time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.least == 0 || life < l.least {
		l.least = life
	}
}

// answering is a connection to a name server, in datagrams. Of the rare answers that need TCP nothing is noted.
type answering struct {
	*net.UDPConn
	lives *lives
}

func (a *answering) Read(b []byte) (int, error) {
	n, err := a.UDPConn.Read(b)
	if err == nil {
		a.lives.note(b[:n])
	}
	return n, err
}
