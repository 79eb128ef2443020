package doctor

import (
	"fmt"
	"time"

	"stunnel/transport"
)

// checkPeers: who has a session with whom at all.
func checkPeers(m *Machine, t *Tunnel) (found []Finding) {
	if t.Status == nil {
		return nil
	}
	if t.Status.PrivateKey.IsZero() && t.Status.PublicKey.IsZero() {
		return one(Finding{
			ID: "no_key", What: "it has no private key, and can speak with nobody",
			Evidence: []Evidence{{"stunnel show " + t.Name, "no public key"}},
			Remedies: commands("sudo wg set " + t.Name + " private-key FILE"),
		})
	}
	if len(t.Status.Peers) == 0 {
		return one(Finding{
			ID: "no_peer", What: "it has no peer", Evidence: []Evidence{{"stunnel show " + t.Name, "no peers"}},
			Remedies: words(t.arg() + ": a [Peer] for the other end"),
		})
	}
	for _, p := range t.Peers {
		s := p.Status
		if !s.Goodbye.IsZero() {
			found = append(found, Finding{
				ID: "peer_down", Peer: p.Title, What: "the peer has said that it goes down",
				Evidence: []Evidence{{"stunnel show " + t.Name, "went down at " + s.Goodbye.UTC().Format(time.RFC3339)}},
				Remedies: []Remedy{{"sudo stunnel up NAME", "at the other end"}},
			})
		}
		if n := s.Drops["no_endpoint"]; n != 0 && !p.Endpoint.IsValid() {
			found = append(found, Finding{
				ID: "no_endpoint", Peer: p.Title, What: "there are packets for it, but nobody knows where it is: it has no Endpoint here and has not spoken yet",
				Evidence: []Evidence{t.dropped(p.Title, "no_endpoint", n)},
				Remedies: []Remedy{
					{Why: t.arg() + ": give it an Endpoint, if its address is known and fixed"},
					{Why: "or let it speak first: an Endpoint and PersistentKeepalive = 25 in its own file"},
				},
			})
		}
		if len(p.AllowedIPs) == 0 && !t.ethernet() {
			found = append(found, Finding{
				ID: "no_allowed_ips", Peer: p.Title, What: "it has no AllowedIPs: nothing goes to it, and nothing is taken from it",
				Evidence: []Evidence{{"stunnel show " + t.Name, "allowed ips: (none)"}},
				Remedies: words(t.arg() + ": its tunnel addresses into AllowedIPs, as 10.20.0.2/32"),
			})
		}
	}
	return found
}

// dropped is a drop counter as evidence; peer is "" for those of no one peer.
func (t *Tunnel) dropped(peer, reason string, n uint64) Evidence {
	says := fmt.Sprintf("dropped_packets.%s: %d", reason, n)
	if peer != "" {
		says += " (peer " + peer + ")"
	}
	return Evidence{"stunnel show " + t.Name + " --json", says}
}

// checkHandshake: handshakes that are sent and not answered have three usual reasons, and what was dropped here may tell which.
func checkHandshake(m *Machine, t *Tunnel) (found []Finding) {
	for _, p := range t.Peers {
		if !p.unanswered(m.Clock.Now) {
			found = append(found, p.perhapsUnanswered(t, m.Clock.Now)...)
			continue
		}
		f := Finding{ID: "no_handshake", Peer: p.Title, What: "handshakes are sent to " + p.place() + ", and it does not answer"}
		last := "latest handshake: never"
		if !p.Status.LastHandshake.IsZero() {
			last = "latest handshake: " + p.Status.LastHandshake.UTC().Format(time.RFC3339)
			f.What += " any more"
		}
		f.Evidence = []Evidence{{"stunnel show " + t.Name,
			fmt.Sprintf("%s; %d bytes sent, %d received", last, p.Status.TxBytes, p.Status.RxBytes)}}
		f.Remedies = t.keyRemedies(&f, p)
		if t.transport(&p) != transport.TransportTCP {
			f.Remedies = append(f.Remedies, reachRemedies(t, p)...)
		}
		f.Remedies = append(f.Remedies, t.tcpRemedies(&f, &p)...)
		found = append(found, f)
	}
	return append(found, t.strangers(m.Clock.Now)...)
}

// place is where it is thought to be.
func (p *Peer) place() string {
	if !p.Endpoint.IsValid() && len(p.Doors) > 0 {
		return p.Doors[0].To.String() + " by TCP"
	}
	return p.Endpoint.String()
}

// perhapsUnanswered: without a keepalive nobody knows whether there was something to send lately.
func (p *Peer) perhapsUnanswered(t *Tunnel, now time.Time) []Finding {
	s := p.Status
	if s == nil || s.LastHandshake.IsZero() || s.Drops["no_handshake"] == 0 || now.Sub(s.LastHandshake) <= silence {
		return nil
	}
	return one(Finding{
		ID: "session_over", Peer: p.Title, Note: true,
		What:     "its session is over, and some time packets have waited for a new one in vain; it may be at rest now, or not answer",
		Evidence: []Evidence{{"stunnel show " + t.Name, "latest handshake: " + s.LastHandshake.UTC().Format(time.RFC3339)}, t.dropped(p.Title, "no_handshake", s.Drops["no_handshake"])},
		Remedies: []Remedy{{"ping -c 3 ADDRESS", "to one of its addresses, and if that has no answer: " + reachRemedies(t, *p)[0].Command + ", " + reachRemedies(t, *p)[0].Why}},
	})
}

// keyRemedies are what counters of this end say about keys; f gets them as evidence.
func (t *Tunnel) keyRemedies(f *Finding, p Peer) (remedies []Remedy) {
	own := t.Status.PublicKey.String()
	if n := t.Status.Drops["bad_mac1"]; n != 0 {
		f.Evidence = append(f.Evidence, t.dropped("", "bad_mac1", n))
		remedies = append(remedies, Remedy{Why: "wrong key at the other end: somebody speaks to this port for another public key; the PublicKey of this host, in the other's file, is " + own})
	}
	if n := t.Status.Drops["unknown_peer"]; n != 0 {
		f.Evidence = append(f.Evidence, t.dropped("", "unknown_peer", n))
		remedies = append(remedies, Remedy{"journalctl -t stunnel", "has the key that came and that no [Peer] here has: is it " + p.Title + "'s? Then correct its PublicKey in " + t.arg()})
	}
	if n := p.Status.Drops["bad_handshake"]; n != 0 {
		f.Evidence = append(f.Evidence, t.dropped(p.Title, "bad_handshake", n))
		remedies = append(remedies, Remedy{Why: "the PresharedKey must be the same at both ends, or none at both"})
	}
	if n := p.Status.Drops["replayed_initiation"]; n != 0 {
		f.Evidence = append(f.Evidence, t.dropped(p.Title, "replayed_initiation", n))
		remedies = append(remedies, Remedy{Why: "its clock was set back, or two hosts have the same key: see the clock there"})
	}
	if n := p.Status.Drops["send_failed"]; n != 0 {
		f.Evidence = append(f.Evidence, t.dropped(p.Title, "send_failed", n))
		remedies = append(remedies, Remedy{"sudo nft list ruleset", "does a rule keep this host from sending to " + p.Endpoint.String() + "?"})
	}
	if len(remedies) == 0 {
		remedies = append(remedies, Remedy{"sudo stunnel show NAME", "at the other end: its public key must be " + p.Status.PublicKey.String() +
			", its peer's " + own + "; what it drops tells more"})
	}
	return remedies
}

// reachRemedies are for packets that do not arrive, or whose answers do not.
func reachRemedies(t *Tunnel, p Peer) []Remedy {
	port := p.Endpoint.Port()
	return []Remedy{
		{fmt.Sprintf("sudo tcpdump -ni any udp port %d", port),
			"at the other end. Nothing comes: no port forwarding in its router, a firewall, or a wrong address. It comes: its own firewall, or another ListenPort than " +
				fmt.Sprint(port)},
		{fmt.Sprintf("sudo tcpdump -ni any udp and host %s", p.Endpoint.Addr().WithZone("")),
			"here: if packets leave and none comes back although they arrive there, a network on the way blocks UDP"},
	}
}

// strangers: nobody is without an answer here, but somebody knocks with a wrong key.
func (t *Tunnel) strangers(now time.Time) (found []Finding) {
	if t.Status == nil {
		return nil
	}
	for _, p := range t.Peers {
		if !p.Status.LastHandshake.IsZero() || p.unanswered(now) {
			return nil // a stray one on an open port is normal, and of the others is told already
		}
	}
	own := t.Status.PublicKey.String()
	if n := t.Status.Drops["bad_mac1"]; n != 0 {
		found = append(found, Finding{
			ID: "wrong_key", What: "somebody makes handshakes with this port, but for another public key",
			Evidence: []Evidence{t.dropped("", "bad_mac1", n)},
			Remedies: words("in the other end's file, this host's PublicKey is " + own),
		})
	}
	if n := t.Status.Drops["unknown_peer"]; n != 0 {
		found = append(found, Finding{
			ID: "unknown_key", What: "somebody makes handshakes with a key that no peer here has",
			Evidence: []Evidence{t.dropped("", "unknown_peer", n)},
			Remedies: []Remedy{{"journalctl -t stunnel", "has the key that came: if it is the other end's, write it into " + t.arg() + " as its PublicKey"}},
		})
	}
	for _, p := range t.Peers {
		if n := p.Status.Drops["bad_handshake"]; n != 0 {
			found = append(found, Finding{
				ID: "preshared_key", Peer: p.Title, What: "its handshakes can't be opened: the preshared keys differ",
				Evidence: []Evidence{t.dropped(p.Title, "bad_handshake", n)},
				Remedies: words("the PresharedKey must be the same at both ends, or none at both"),
			})
		}
	}
	return found
}
