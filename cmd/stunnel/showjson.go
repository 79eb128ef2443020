package main

import (
	"encoding/json"
	"io"
	"time"

	"stunnel/transport"
)

// jsonDescription is the promise that `show --json` keeps: names are added, never changed.
const jsonDescription = `--json prints {"interfaces": [...]}. Names are only ever added. Of an interface:
   name, other_namespace_pid (the process, if it runs in another network namespace; else null),
   public_key, has_private_key, private_key (with --show-keys), listen_port, listen_tcp (0 if no TCP connections
   are taken), streams (open TCP connections), strangers (TCP connections closed since they proved nothing), fwmark, up and mtu (null if
   the program does not tell), lanes (0 if it does not tell), offloads {name: "" if it is in use, else why
   not} (null if the program does not tell; csum, io_uring, tso4, tso6, uso4, uso6 and vnet_hdr of the
   device, gro and gso of the sockets), trusted_checksums (whether they are on; null if the program does not tell),
   ethernet (null in tun mode), dropped_packets {reason: number; those of no one peer}, peers.
Of ethernet: mac_ageing_seconds, mac_limit, storm_limit (flooded frames a second, 0 is off), forward,
   port_security, link_local_frames (whether they pass), local (this host's side), and with --macs stations,
   of each mac, vlan (0: none), inner_vlan, peer and public_key (null: this host's side), seconds_ago.
Of a side: stations (how many), allowed_macs (empty: any), loop (whether nothing is flooded there because of
   one), flaps (times that a station which moves too often was held), unlearned_frames (beyond mac_limit).
Of a peer:
   name ("" if it has none), public_key, has_preshared_key, preshared_key (with --show-keys),
   endpoint (null if not known), endpoints and endpoints_tcp (where it may be), transport ("udp", "tcp" or "auto";
   null if the program does not tell), carrier ("udp" or "tcp"; null if there is no session), carrier_since (RFC 3339
   in UTC), carrier_since_seconds_ago, carrier_why (for people, or ""), path_mtu (the largest packet outside that is known
   to reach it, in bytes; null if that is not measured), allowed_ips, latest_handshake (RFC 3339 in UTC, null if never),
   latest_handshake_seconds_ago, unanswered_since (since when handshakes are tried in vain, RFC 3339 in UTC; null if none
   is being tried), unanswered_since_seconds_ago, rx_bytes, tx_bytes, persistent_keepalive_seconds (0 is off),
   extensions ("off", "auto" or "required"; null if the program does not tell), software ("stunnel" and its
   version, or "wireguard" if it announces nothing; "" if not known), announced (the extensions that it takes),
   refused (why extensions are not spoken with it, or ""), downgrades (how often it spoke extensions and then no
   more), goodbye (when it said that it goes down, RFC 3339 in UTC; null if it did not, or is back),
   goodbye_seconds_ago, round_trip_seconds (the median of the last minute, null if there is none), echoes_sent
   and echoes_lost (of the last minute), port (its side; null in tun mode), dropped_packets.
Keys are base64.`

type jsonShow struct {
	Interfaces []jsonInterface `json:"interfaces"`
}

type jsonInterface struct {
	Name             string            `json:"name"`
	Elsewhere        *int              `json:"other_namespace_pid"`
	PublicKey        *string           `json:"public_key"`
	HasPrivateKey    bool              `json:"has_private_key"`
	PrivateKey       string            `json:"private_key,omitempty"`
	ListenPort       uint16            `json:"listen_port"`
	ListenTCP        uint16            `json:"listen_tcp"`
	Streams          int               `json:"streams"`
	Strangers        uint64            `json:"strangers"`
	FwMark           uint32            `json:"fwmark"`
	Up               *bool             `json:"up"`
	MTU              *int              `json:"mtu"`
	Lanes            int               `json:"lanes"`
	Offloads         map[string]string `json:"offloads"`
	TrustedChecksums *bool             `json:"trusted_checksums"`
	Ethernet         *jsonEthernet     `json:"ethernet"`
	DroppedPackets   map[string]uint64 `json:"dropped_packets"`
	Peers            []jsonPeer        `json:"peers"`
}

type jsonPeer struct {
	Name                string            `json:"name"`
	PublicKey           string            `json:"public_key"`
	HasPresharedKey     bool              `json:"has_preshared_key"`
	PresharedKey        string            `json:"preshared_key,omitempty"`
	Endpoint            *string           `json:"endpoint"`
	Endpoints           []string          `json:"endpoints"`
	EndpointsTCP        []string          `json:"endpoints_tcp"`
	Transport           *string           `json:"transport"`
	Carrier             *string           `json:"carrier"`
	CarrierSince        *string           `json:"carrier_since"`
	CarrierSinceAgo     *float64          `json:"carrier_since_seconds_ago"`
	CarrierWhy          string            `json:"carrier_why"`
	PathMTU             *int              `json:"path_mtu"`
	AllowedIPs          []string          `json:"allowed_ips"`
	LatestHandshake     *string           `json:"latest_handshake"`
	LatestHandshakeAgo  *float64          `json:"latest_handshake_seconds_ago"`
	UnansweredSince     *string           `json:"unanswered_since"`
	UnansweredSinceAgo  *float64          `json:"unanswered_since_seconds_ago"`
	RxBytes             uint64            `json:"rx_bytes"`
	TxBytes             uint64            `json:"tx_bytes"`
	PersistentKeepalive int64             `json:"persistent_keepalive_seconds"`
	Extensions          *string           `json:"extensions"`
	Software            string            `json:"software"`
	Announced           []string          `json:"announced"`
	Refused             string            `json:"refused"`
	Downgrades          uint64            `json:"downgrades"`
	Goodbye             *string           `json:"goodbye"`
	GoodbyeAgo          *float64          `json:"goodbye_seconds_ago"`
	RoundTrip           *float64          `json:"round_trip_seconds"`
	EchoesSent          int               `json:"echoes_sent"`
	EchoesLost          int               `json:"echoes_lost"`
	Port                *jsonSide         `json:"port"`
	DroppedPackets      map[string]uint64 `json:"dropped_packets"`
}

// showJSON prints what jsonDescription says.
func showJSON(w io.Writer, tunnels []tunnel, o showOptions) error {
	show := jsonShow{Interfaces: make([]jsonInterface, 0, len(tunnels))}
	for _, t := range tunnels {
		show.Interfaces = append(show.Interfaces, interfaceJSON(t, o))
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(show)
}

func interfaceJSON(t tunnel, o showOptions) jsonInterface {
	s := &t.status
	j := jsonInterface{
		Name:           t.name,
		HasPrivateKey:  !s.PrivateKey.IsZero(),
		ListenPort:     s.ListenPort,
		ListenTCP:      s.ListenTCP,
		Streams:        s.Streams,
		Strangers:      s.Strangers,
		FwMark:         s.FwMark,
		Lanes:          s.Lanes,
		DroppedPackets: orEmpty(s.Drops),
		Peers:          make([]jsonPeer, 0, len(s.Peers)),
		Ethernet:       ethernetJSON(s, o.macs),
	}
	if !s.PublicKey.IsZero() {
		key := s.PublicKey.String()
		j.PublicKey = &key
	}
	if o.keys && j.HasPrivateKey {
		j.PrivateKey = s.PrivateKey.Base64()
	}
	if t.elsewhere != 0 {
		j.Elsewhere = &t.elsewhere
	}
	ours := s.MTU != 0 // told by stunnel only, which tells all else too
	if ours {
		j.MTU, j.Up, j.TrustedChecksums = &s.MTU, &s.Up, &s.TrustedChecksums
	}
	for _, o := range s.Offloads {
		if j.Offloads == nil {
			j.Offloads = make(map[string]string)
		}
		j.Offloads[o.Name] = o.Off
	}
	for _, p := range s.Peers {
		peer := peerJSON(p, o)
		if ours {
			word := p.Extensions.String()
			peer.Extensions = &word
			allowed := p.Transport.String()
			peer.Transport = &allowed
		}
		if s.Ethernet != nil {
			port := sideJSON(&p.Port)
			peer.Port = &port
		}
		j.Peers = append(j.Peers, peer)
	}
	return j
}

func peerJSON(p transport.PeerStatus, o showOptions) jsonPeer {
	j := jsonPeer{
		Name:                p.Name,
		PublicKey:           p.PublicKey.String(),
		HasPresharedKey:     !p.PresharedKey.IsZero(),
		Endpoints:           texts(p.Endpoints),
		EndpointsTCP:        texts(p.EndpointsTCP),
		CarrierWhy:          p.CarrierWhy,
		AllowedIPs:          texts(p.AllowedIPs),
		RxBytes:             p.RxBytes,
		TxBytes:             p.TxBytes,
		PersistentKeepalive: int64(p.PersistentKeepalive / time.Second),
		Software:            p.Software,
		Announced:           append([]string{}, p.Announced...),
		Refused:             p.Refused,
		Downgrades:          p.Downgrades,
		EchoesSent:          p.EchoesSent,
		EchoesLost:          p.EchoesLost,
		DroppedPackets:      orEmpty(p.Drops),
	}
	if o.keys && j.HasPresharedKey {
		j.PresharedKey = p.PresharedKey.Base64()
	}
	if p.Endpoint.IsValid() {
		endpoint := p.Endpoint.String()
		j.Endpoint = &endpoint
	}
	j.LatestHandshake, j.LatestHandshakeAgo = timeJSON(p.LastHandshake, o.now)
	j.UnansweredSince, j.UnansweredSinceAgo = timeJSON(p.UnansweredSince, o.now)
	if !p.CarrierSince.IsZero() {
		carrier := p.Carrier.String()
		j.Carrier = &carrier
	}
	j.CarrierSince, j.CarrierSinceAgo = timeJSON(p.CarrierSince, o.now)
	if p.PathMTU != 0 {
		j.PathMTU = &p.PathMTU
	}
	j.Goodbye, j.GoodbyeAgo = timeJSON(p.Goodbye, o.now)
	if p.RoundTrip > 0 {
		seconds := p.RoundTrip.Seconds()
		j.RoundTrip = &seconds
	}
	return j
}

// timeJSON tells a time, and how long ago that was; null if it never was.
func timeJSON(t, now time.Time) (at *string, ago *float64) {
	if t.IsZero() {
		return nil, nil
	}
	text := t.UTC().Format(time.RFC3339Nano)
	seconds := now.Sub(t).Round(time.Millisecond).Seconds()
	return &text, &seconds
}

func orEmpty(drops map[string]uint64) map[string]uint64 {
	if drops == nil {
		return map[string]uint64{}
	}
	return drops
}
