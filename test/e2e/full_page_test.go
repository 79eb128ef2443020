package e2e

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"stunnel/test/lab"
)

// Addresses of docs/full-tunnel.md and docs/gateway.md.
const (
	pageClient, pageRouter = "192.0.2.10", "192.0.2.1"
	pageGateway            = "203.0.113.7"
	pageServer             = "198.51.100.80"
	pageServer6            = "2001:db8:80::80"
)

// page is docs/full-tunnel.md with hosts as it has them, and their files.
type page struct {
	*lab.Lab
	text                            string
	client, router, gateway, server *lab.Host
	clientKeys, gatewayKeys         pair
}

func newPage(t *testing.T) *page {
	t.Helper()
	l := lab.New(t)
	for _, command := range []string{"ping", "nft", "curl", "sysctl"} {
		lab.Need(t, command)
	}
	text, err := os.ReadFile("../../docs/full-tunnel.md")
	if err != nil {
		t.Fatal(err)
	}
	p := &page{Lab: l, text: string(text), client: l.Host("client"), router: l.Host("router"), gateway: l.Host("gateway"), server: l.Host("server"),
		clientKeys: newPair(t), gatewayKeys: newPair(t)}
	l.Link("eth0", p.client, []string{pageClient + "/24"}, p.router, []string{pageRouter + "/24"})
	l.Link("eth1", p.gateway, []string{pageGateway + "/24", "2001:db8:7::7/64"}, p.router, []string{"203.0.113.1/24", "2001:db8:7::1/64"})
	l.Link("eth2", p.server, []string{pageServer + "/24", pageServer6 + "/64"}, p.router, []string{"198.51.100.1/24", "2001:db8:80::1/64"})
	p.router.Run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	for h, via := range map[*lab.Host]string{p.client: pageRouter, p.gateway: "203.0.113.1", p.server: "198.51.100.1"} {
		h.Run("ip", "route", "add", "default", "via", via)
	}
	p.gateway.Run("ip", "-6", "route", "add", "default", "via", "2001:db8:7::1")
	p.server.Run("ip", "-6", "route", "add", "default", "via", "2001:db8:80::1")

	up(p.gateway, l.File("gateway/office.conf", "[Interface]\nPrivateKey = "+p.gatewayKeys.private+
		"\nAddress = 10.20.0.1/24, fd20::1/64\nListenPort = 51820\nMasquerade = yes\n[Peer]\nName = laptop\nPublicKey = "+p.clientKeys.public+
		"\nAllowedIPs = 10.20.0.2/32, fd20::2/128\n"))
	for _, address := range []string{pageServer + ":80", "[" + pageServer6 + "]:80"} {
		p.server.Start(tool("tool-http", address)...).Await("listening")
	}
	// A page says `sudo stunnel`: both are there by these names.
	bin := l.Dir + "/bin"
	p.client.Run("mkdir", "-p", bin)
	p.client.Run("ln", "-s", binary, bin+"/stunnel")
	p.client.Run("sh", "-c", "printf '#!/bin/sh\\nexec \"$@\"\\n' > "+bin+"/sudo && chmod +x "+bin+"/sudo")
	return p
}

// blocks are the page's texts behind four blanks, each without them.
func (p *page) blocks() (all []string) {
	for _, b := range regexp.MustCompile(`(?m)(?:^    .*\n|^\n)+`).FindAllString(p.text, -1) {
		b = strings.Trim(regexp.MustCompile(`(?m)^    `).ReplaceAllString(b, ""), "\n")
		if b != "" {
			all = append(all, b)
		}
	}
	return all
}

// block is the one that begins so.
func (p *page) block(t *testing.T, begins string) string {
	t.Helper()
	for _, b := range p.blocks() {
		if strings.HasPrefix(b, begins) {
			return b
		}
	}
	t.Fatalf("the page has no block that begins with %q", begins)
	return ""
}

// config is the page's file of the client, with keys, and with other in the place of what its first block has in [Interface].
func (p *page) config(t *testing.T, other string) string {
	t.Helper()
	text := p.block(t, "[Interface]\nPrivateKey")
	text = strings.NewReplacer("(the client's private key)", p.clientKeys.private, "(the gateway's public key)", p.gatewayKeys.public).Replace(text)
	if other != "" {
		text = regexp.MustCompile(`(?m)^(DNS|KillSwitch) .*\n`).ReplaceAllString(text, "")
		text = strings.Replace(text, "\n\n[Peer]", "\n"+other+"\n\n[Peer]", 1)
	}
	return p.File("client/work.conf", text+"\n")
}

// sh runs a line of the page on the client.
func (p *page) sh(t *testing.T, line string) string {
	t.Helper()
	out, err := p.client.Try("env", "PATH="+p.Dir+"/bin:"+os.Getenv("PATH"), "sh", "-c", "cd "+p.Dir+"/client; "+strings.ReplaceAll(line, "check work", "check ./work.conf"))
	if err != nil {
		t.Errorf("%s: %v\n%s", line, err, out)
	}
	return out
}

// asked asks the server, and says by which address it was asked.
func (p *page) asked(t *testing.T, args ...string) string {
	t.Helper()
	out, err := p.client.Try(append([]string{"curl", "-sS", "--max-time", "10"}, args...)...)
	if err != nil {
		t.Fatalf("curl %v: %v\n%s", args, err, out)
	}
	host, _, _ := strings.Cut(strings.TrimSpace(out), "]")
	if !strings.HasPrefix(host, "[") {
		host, _, _ = strings.Cut(host, ":")
	}
	return strings.TrimPrefix(host, "[")
}

func TestThePageAboutFullTunnelsIsTrue(t *testing.T) {
	t.Parallel()
	p := newPage(t)
	before := wholeState(p.client)
	if got := p.asked(t, "http://"+pageServer); got != pageClient {
		t.Fatalf("without the tunnel the server is asked by %s", got)
	}
	tunnel := up(p.client, p.config(t, ""))
	for url, want := range map[string]string{"http://" + pageServer: pageGateway, "http://[" + pageServer6 + "]": "2001:db8:7::7"} {
		if got := p.asked(t, url); got != want {
			t.Errorf("%s is asked by %s, want the gateway's %s", url, got, want)
		}
	}
	findsNothing(t, p.client)
	findsNothing(t, p.gateway)

	says := map[string]string{ // of lines, what the page says of them
		"sudo stunnel check work": "table inet stunnel-work", "ip rule ": "proto 115", "ip -6 rule": "proto 115", "ip route show table 51820": "default dev work",
		"ip -6 route show table 51820": "default dev work", "ip route get 198.51.100.80": "dev work", "ip route get 203.0.113.7 mark 51820": "dev eth0",
		"sudo nft list table inet stunnel-work": "premangle", "sysctl net.ipv4.conf.all.src_valid_mark": "= 1", "stunnel show work": "fwmark:           0xca6c",
	}
	seen := 0
	for line := range strings.Lines(p.block(t, "sudo stunnel check work                   #")) {
		out := p.sh(t, strings.TrimSpace(line))
		for begins, want := range says {
			if strings.HasPrefix(line, begins) {
				if seen++; !strings.Contains(out, want) {
					t.Errorf("%sdoes not say %q:\n%s", line, want, out)
				}
			}
		}
	}
	if seen < len(says) {
		t.Errorf("the page has %d of the lines that this test knows", seen)
	}
	p.sh(t, "sudo stunnel down work")
	if status := tunnel.Wait(); status != 0 {
		t.Errorf("up ended with %d", status)
	}
	sameWholeState(t, p.client, before, "after down")
}

func TestThePageAboutFullTunnelsIsTrueOfTunnelsForSome(t *testing.T) {
	t.Parallel()
	t.Run("off", func(t *testing.T) {
		p := newPage(t)
		up(p.client, p.config(t, "Table = off"))
		p.client.Run("sysctl", "-qw", "net.ipv4.conf.work.rp_filter=2")
		if got := p.asked(t, "http://"+pageServer); got != pageClient {
			t.Errorf("ordinary traffic is seen as %s's", got)
		}
		command := strings.Fields(p.block(t, "curl --interface work"))
		if got := p.asked(t, command[1:]...); got != pageGateway {
			t.Errorf("what asks for the tunnel is seen as %s's", got)
		}
	})
	t.Run("a user", func(t *testing.T) {
		p := newPage(t)
		lab.Need(t, "setpriv")
		block := p.block(t, "[Interface]\n...\nTable    = 4711")
		before := wholeState(p.client)
		tunnel := up(p.client, p.config(t, strings.TrimPrefix(block, "[Interface]\n...\n")))
		if got := p.asked(t, "http://"+pageServer); got != pageClient {
			t.Errorf("another user's traffic is seen as %s's", got)
		}
		out := p.client.Run("setpriv", "--reuid=1001", "--clear-groups", "curl", "-sS", "--max-time", "10", "http://"+pageServer)
		if !strings.HasPrefix(out, pageGateway+":") {
			t.Errorf("that user's traffic is seen as %s's", out)
		}
		tunnel.Stop()
		sameWholeState(t, p.client, before, "after down")
	})
}
