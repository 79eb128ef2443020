package transport

import "sync/atomic"

// dropReason says why a packet went no further. A drop is a counter, never an
// error and never a log line: what the network sends must not fill a disk.
type dropReason uint8

const (
	// from the network, before it is known whose it is
	dropMalformed dropReason = iota
	dropNoKey
	dropBadMAC1
	dropUnderLoad
	dropRateLimited
	dropQueueFull
	dropUnknownPeer
	dropUnknownIndex
	// from the network, of a peer
	dropBadHandshake
	dropReplayedInitiation
	dropInitiationFlood
	dropBadCookie
	dropOtherWay // an answer that did not come by the way of the question, or a probe by that of its session
	dropExpiredSession
	dropNotAuthentic
	dropReplayed
	dropBadPacket
	dropBadSource
	dropExtensionsOff
	dropBadExtension
	dropUnknownExtension
	dropNotAnnounced // what we have not said that we open
	dropBeforeHello  // extensions are required, and the peer has announced none
	dropBadFragment
	dropFragmentMissing
	dropReassemblyFull
	dropReassemblyMemory
	dropUntrustedChecksum
	dropNoFrame // an IP packet, in tap mode
	// frames, from a peer or from the local stack
	dropBadFrame
	dropLinkLocal
	dropClaimedAddress
	dropStorm
	dropLoop
	dropElsewhere // for a station on the side that they came from, or beyond another peer
	// from the local stack
	dropNoPeer
	dropNoPeerMulticast // the kernel's own chatter; every interface has some
	dropNoEndpoint
	dropRoutingLoop // what we have sent ourselves
	dropStagingFull
	dropNoHandshake
	dropOtherMode // the peer carries none of what we do
	dropTooLarge
	dropDown
	dropSendFailed
	dropStalled // a TCP connection takes no more
	// to the local stack
	dropWriteFailed

	dropReasons
)

var dropNames = [dropReasons]string{
	dropMalformed:          "malformed",
	dropNoKey:              "no_private_key",
	dropBadMAC1:            "bad_mac1",
	dropUnderLoad:          "under_load",
	dropRateLimited:        "rate_limited",
	dropQueueFull:          "handshake_queue_full",
	dropUnknownPeer:        "unknown_peer",
	dropUnknownIndex:       "unknown_index",
	dropBadHandshake:       "bad_handshake",
	dropReplayedInitiation: "replayed_initiation",
	dropInitiationFlood:    "initiation_flood",
	dropBadCookie:          "bad_cookie",
	dropOtherWay:           "other_way",
	dropExpiredSession:     "expired_session",
	dropNotAuthentic:       "not_authentic",
	dropReplayed:           "replayed",
	dropBadPacket:          "bad_packet",
	dropBadSource:          "bad_source",
	dropExtensionsOff:      "extensions_off",
	dropBadExtension:       "bad_extension",
	dropUnknownExtension:   "unknown_extension",
	dropNotAnnounced:       "not_announced",
	dropBeforeHello:        "before_hello",
	dropBadFragment:        "bad_fragment",
	dropFragmentMissing:    "fragment_missing",
	dropReassemblyFull:     "reassembly_full",
	dropReassemblyMemory:   "reassembly_memory",
	dropUntrustedChecksum:  "untrusted_checksum",
	dropNoFrame:            "no_frame",
	dropBadFrame:           "bad_frame",
	dropLinkLocal:          "link_local",
	dropClaimedAddress:     "claimed_address",
	dropStorm:              "storm",
	dropLoop:               "loop",
	dropElsewhere:          "elsewhere",
	dropNoPeer:             "no_peer",
	dropNoPeerMulticast:    "no_peer_multicast",
	dropNoEndpoint:         "no_endpoint",
	dropRoutingLoop:        "routing_loop",
	dropStagingFull:        "staging_full",
	dropNoHandshake:        "no_handshake",
	dropOtherMode:          "other_mode",
	dropTooLarge:           "too_large",
	dropDown:               "interface_down",
	dropSendFailed:         "send_failed",
	dropStalled:            "stalled",
	dropWriteFailed:        "write_failed",
}

func (r dropReason) String() string { return dropNames[r] }

// drops counts packets by reason; safe for concurrent use.
type drops [dropReasons]atomic.Uint64

func (d *drops) add(r dropReason, n int) { d[r].Add(uint64(n)) }

// counts returns the reasons that happened, nil when none did.
func (d *drops) counts() map[string]uint64 {
	var m map[string]uint64
	for r := range d {
		if n := d[r].Load(); n != 0 {
			if m == nil {
				m = make(map[string]uint64)
			}
			m[dropReason(r).String()] = n
		}
	}
	return m
}
