package doctor

// checkDrops: with a session there, what is dropped for its addresses tells of allowed IPs that lack some.
func checkDrops(m *Machine, t *Tunnel) (found []Finding) {
	if t.Status == nil {
		return nil
	}
	sent := uint64(0)
	for _, p := range t.Peers {
		s := p.Status
		sent += s.TxBytes
		if n := s.Drops["bad_source"]; n != 0 {
			found = append(found, Finding{
				ID: "source_not_allowed", Peer: p.Title, Note: !mostly(n, s.RxBytes),
				What:     "it sends from addresses that are not in its AllowedIPs here, and those packets are dropped",
				Evidence: []Evidence{t.dropped(p.Title, "bad_source", n)},
				Remedies: []Remedy{
					{"sudo tcpdump -ni " + t.Name, "at the other end shows the addresses that it sends from"},
					{Why: t.arg() + ": those, if they are meant, into AllowedIPs of " + p.Title + " (its Address, and networks behind it)"},
				},
			})
		}
		if n := s.Drops["before_hello"]; n != 0 && mostly(n, s.RxBytes) {
			found = append(found, Finding{
				ID: "extensions_required", Peer: p.Title, What: "extensions are required, and it announces none: nothing passes",
				Evidence: []Evidence{t.dropped(p.Title, "before_hello", n)},
				Remedies: words(t.arg() + ": take Extensions = required out, if the other end is not a stunnel"),
			})
		}
	}
	if n := t.Status.Drops["no_peer"]; n != 0 {
		found = append(found, Finding{
			ID: "destination_not_allowed", Note: !mostly(n, sent),
			What:     "packets are led into the tunnel to addresses that no peer's AllowedIPs have, and are refused",
			Evidence: []Evidence{t.dropped("", "no_peer", n)},
			Remedies: []Remedy{
				{"sudo tcpdump -ni " + t.Name, "shows the addresses"},
				{Why: t.arg() + ": the address into the AllowedIPs of the peer that has it"},
				{"ip route show dev " + t.Name, "lists what is led into the tunnel: take a route away that has no peer"},
			},
		})
	}
	return found
}

// mostly: of what was carried, n packets are at least a half. A few of them every tunnel may have, by the kernel's own chatter
// or a scan; so small a packet is 128 bytes when it is sealed.
func mostly(n, bytes uint64) bool { return n*128 >= bytes/2 }
