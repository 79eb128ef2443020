package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// dropWords says what was dropped and why, in the words of a person: dropWords["replayed"] makes of 2 "2 packets that
// came twice, ...". docs/operations.md has the same words, with what to do about each.
var dropWords = map[string]struct{ what, why string }{
	// from the network, of no peer yet
	"malformed":            {"datagram", "that can be no message of WireGuard's"},
	"no_private_key":       {"packet", "while there was no private key"},
	"bad_mac1":             {"handshake message", "made for another public key than ours"},
	"under_load":           {"handshake message", "whose sender was asked for a cookie first, in a flood"},
	"rate_limited":         {"handshake message", "beyond what one address may send in a flood"},
	"handshake_queue_full": {"handshake message", "for which there was no room in a flood"},
	"unknown_peer":         {"handshake", "from a public key that no peer here has"},
	"unknown_index":        {"message", "of a session that is not here any more"},
	// from the network, of a peer
	"bad_handshake":       {"handshake message", "that could not be opened; perhaps the preshared keys differ"},
	"replayed_initiation": {"handshake", "no newer than one before: repeated, or its clock was set back"},
	"initiation_flood":    {"handshake", "too soon after the one before"},
	"bad_cookie":          {"cookie", "that could not be opened"},
	"other_way":           {"message", "of a handshake or a probe, by another way than it belongs to"},
	"expired_session":     {"packet", "of a session past its time"},
	"not_authentic":       {"packet", "forged or damaged on the way"},
	"replayed":            {"packet", "that came twice, or far too late"},
	"bad_packet":          {"packet", "with no whole IP packet inside"},
	"bad_source":          {"packet", "from an address that is not in its allowed ips"},
	"extensions_off":      {"message", "about extensions, which are off here"},
	"bad_extension":       {"message", "of a stunnel that makes no sense"},
	"unknown_extension":   {"message", "of a newer stunnel, which this one does not know"},
	"not_announced":       {"message", "of a kind that this end does not take"},
	"before_hello":        {"packet", "without extensions, which are required"},
	"bad_fragment":        {"packet", "in fragments that contradict each other"},
	"fragment_missing":    {"packet", "of which a fragment did not come in time"},
	"reassembly_full":     {"packet", "of which fragments were missing, given up for newer ones"},
	"reassembly_memory":   {"packet", "of which fragments were missing, given up for their memory"},
	"untrusted_checksum":  {"packet", "without a checksum, which this end has not agreed to"},
	"no_frame":            {"packet", "of IP, while this end carries Ethernet frames"},
	// frames, from a peer or from the local stack
	"bad_frame":       {"frame", "with a header that cannot be true"},
	"link_local":      {"frame", "for one link alone, as of spanning tree or LLDP"},
	"claimed_address": {"frame", "from a MAC address that is another's, or not allowed there"},
	"storm":           {"frame", "to all, beyond StormLimit"},
	"loop":            {"frame", "to all, where a loop was found"},
	"elsewhere":       {"frame", "for a station that is on another side"},
	// from the local stack
	"no_peer":           {"packet", "to an address in no peer's allowed ips"},
	"no_peer_multicast": {"packet", "of multicast, to no peer"},
	"no_endpoint":       {"packet", "to it while its endpoint was not known"},
	"routing_loop":      {"packet", "of the tunnel itself, routed back into it"},
	"staging_full":      {"packet", "too many to wait for a handshake"},
	"no_handshake":      {"packet", "that waited for a handshake in vain"},
	"other_mode":        {"packet", "that the peer carries none of: one end is in tap mode, the other in tun mode"},
	"too_large":         {"packet", "too large for a datagram"},
	"interface_down":    {"packet", "while the interface was down"},
	"send_failed":       {"packet", "that this host could not send"},
	"stalled":           {"packet", "for a TCP connection that takes no more"},
	// to the local stack
	"write_failed":       {"packet", "that the interface did not take"},
	"device_down":        {"packet", "that came while the interface was down"},
	"device_full":        {"packet", "for which the interface had no room"},
	"device_refused":     {"packet", "that the interface refused as malformed"},
	"bad_offload_header": {"packet", "that the interface gave with a header that cannot be true"},
	"bad_partial":        {"packet", "without a checksum, of a kind that must have one"},
}

// quietDrops happen to every healthy tunnel: --json has them, the text has not.
var quietDrops = []string{"no_peer_multicast", "extensions_off", "link_local", "elsewhere"}

// drops prints the reasons that happened below a heading, the most frequent first.
func (b block) drops(heading string, drops map[string]uint64) {
	reasons := slices.SortedFunc(maps.Keys(drops), func(x, y string) int {
		return cmp.Or(cmp.Compare(drops[y], drops[x]), cmp.Compare(x, y))
	})
	var lines []string
	for _, r := range reasons {
		if drops[r] != 0 && !slices.Contains(quietDrops, r) {
			lines = append(lines, dropText(r, drops[r]))
		}
	}
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b.w, "  %s:\n", heading)
	for _, l := range lines {
		fmt.Fprintf(b.w, "    %s\n", printable(l))
	}
}

// dropText is a reason with its number in words. One that a newer stunnel tells of keeps its name.
func dropText(reason string, n uint64) string {
	words, ok := dropWords[reason]
	if !ok {
		return count(n, "packet") + " for a reason that this program has no words for: " + reason
	}
	return count(n, words.what) + " " + words.why
}
