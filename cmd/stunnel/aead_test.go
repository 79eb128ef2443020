package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

func TestVersionTellsHowPacketsAreSealed(t *testing.T) {
	for forced, want := range map[string]string{
		"":        `^(generic|avx2|avx512)$`,
		"generic": `^generic$`,
		"quantum": `^(generic|avx2|avx512) \(STUNNEL_AEAD="quantum": no such path`,
	} {
		c := exec.Command(os.Args[0], "version")
		c.Env = append(os.Environ(), programVariable+"=1", "STUNNEL_AEAD="+forced)
		out, err := c.Output()
		if err != nil {
			t.Fatal(err)
		}
		line := regexp.MustCompile(`(?m)^aead +(.*)$`).FindSubmatch(out)
		if line == nil || !regexp.MustCompile(want).Match(line[1]) {
			t.Errorf("STUNNEL_AEAD=%s: no line with %s in\n%s", forced, want, out)
		}
	}
}

func TestATunnelSaysLoudlyWhenPacketsAreNotSealedAsTheyShouldBe(t *testing.T) {
	b := newBox(t)
	for forced, wanted := range map[string]bool{"quantum": true, "generic": false} {
		p := b.start([]string{"STUNNEL_AEAD=" + forced}, "stunnel", "up", b.tunnelFile("peer.conf", "")).untilReady()
		if got := strings.Contains(p.said(), "no such path"); got != wanted {
			t.Errorf("STUNNEL_AEAD=%s: a warning is %v:\n%s", forced, got, p.said())
		}
		b.start(nil, "stunnel", "down", "peer").wants(0)
		p.wants(0)
	}
}
