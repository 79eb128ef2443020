// Package ethernet reads what a learning switch must know of an Ethernet frame:
// its addresses, its VLAN, what it carries (IEEE 802.3, 802.1Q, 802.1ad).
//
// Most readers need [Parse]. A frame here reaches from its destination address to
// the end of its payload, without the frame check sequence. No length inside a frame
// is trusted, and nothing is kept of the bytes that are read.
package ethernet
