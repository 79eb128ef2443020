package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"stunnel/crypto"
)

func TestTheLineThatTriesTCPIsToldOnceOfASilentPeer(t *testing.T) {
	var log bytes.Buffer
	a := &tcpAdvice{log: slog.New(slog.NewTextHandler(&log, nil))}
	office, decided := crypto.PublicKey{1}, crypto.PublicKey{2}
	a.watch(office, "office")
	now := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	silent := func(peer crypto.PublicKey, times int) {
		for range times {
			now = now.Add(5 * time.Second)
			a.unanswered(peer, now)
		}
	}
	silent(office, enoughSilence-1)
	now = now.Add(time.Minute) // in which it has answered
	silent(office, enoughSilence-1)
	silent(decided, 10)
	if log.Len() != 0 {
		t.Errorf("too early: %s", log.String())
	}
	silent(office, 10)
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "EndpointTCP = HOST:PORT") || !strings.Contains(text, "peer=office") {
		t.Errorf("told was %s", text)
	}
}
