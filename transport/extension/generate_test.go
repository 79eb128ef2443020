package extension

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

// What is in testdata/extensions.json. Lots are drawn from a fixed seed.

type generator struct {
	t    *testing.T
	lots *rand.ChaCha8
	vectors
}

func generate(t *testing.T) vectors {
	g := &generator{t: t, lots: rand.NewChaCha8([32]byte{4})}
	g.hellos()
	g.controls()
	g.kinds()
	g.partials()
	g.seals()
	g.fragments()
	return g.vectors
}

func (g *generator) draw(n int) []byte {
	b := make([]byte, n)
	g.lots.Read(b)
	return b
}

// pad pads a plaintext as WireGuard does.
func pad(plaintext []byte) []byte {
	return append(slices.Clip(plaintext), make([]byte, -len(plaintext)&15)...)
}

// say adds a canonical message: what is made of the fields, padded.
func (g *generator) say(name, is string, fields map[string]any) (plaintext []byte) {
	plaintext = pad(say(is, fields))
	g.Messages = append(g.Messages, messageVector{name, is, true, plaintext, fields})
	return plaintext
}

// odd adds one that is decoded as these fields and never sent so.
func (g *generator) odd(name, is string, fields map[string]any, plaintext []byte) {
	g.Messages = append(g.Messages, messageVector{name, is, false, plaintext, fields})
}

func (g *generator) refuse(name, why string, plaintext []byte) {
	g.Refused = append(g.Refused, refusedVector{name, why, plaintext})
}

// changed is plaintext with something else at some place.
func changed(plaintext []byte, at int, by ...byte) []byte {
	plaintext = bytes.Clone(plaintext)
	copy(plaintext[at:], by)
	return plaintext
}

// control is a control message of which the body may be anything.
func control(flags Flags, body []byte) []byte {
	return append(AppendHeader(nil, KindControl, flags, len(body)), body...)
}

func (g *generator) hellos() {
	const instance, seen = "1f0e2d3c4b5a6978", "8070605040302010"
	hello := func(wanted bool, mode, capabilities string, sequence float64, seenInstance string, seenSequence float64, version string) map[string]any {
		return map[string]any{
			"wanted": wanted, "mode": mode, "capabilities": capabilities, "instance": instance, "sequence": sequence,
			"seen_instance": seenInstance, "seen_sequence": seenSequence, "version": version,
		}
	}
	const nobody = "0000000000000000"
	g.say("keepalive", "keepalive", map[string]any{})
	g.say("hello, the first of a process", "hello", hello(true, "tun", "00000007", 1, nobody, 0, "1.0.0"))
	g.say("hello that is answered by none", "hello", hello(false, "tun", "00000007", 7, seen, 5, "1.0.0"))
	g.say("hello that wants an answer and acknowledges", "hello", hello(true, "tun", "00000006", 4294967295, "ffffffffffffffff", 4294967295, "1.0.0"))
	g.say("hello in tap mode, version of 16 characters", "hello", hello(true, "tap", "0000000f", 2, seen, 9, "0.9+rc-1.AZazKMk"))
	g.say("hello without capabilities, version of one character", "hello", hello(true, "tun", "00000000", 1, nobody, 0, "2"))
	g.say("hello with unknown ordinary capabilities: they are ignored", "hello", hello(true, "tun", "0000fff7", 1, nobody, 0, "9.0.0"))
	g.say("hello with an unknown critical capability: it parses, and no extensions are spoken", "hello", hello(true, "tun", "00010007", 1, nobody, 0, "9.0.0"))

	fields := hello(false, "tun", "00000007", 7, seen, 5, "1.0.0")
	good := say("hello", fields)
	body := good[HeaderSize:]
	g.odd("hello, reserved flags set", "hello", fields, changed(good, 1, 0xfe))
	g.odd("hello, reserved byte set", "hello", fields, changed(good, HeaderSize+3, 0xff))
	g.odd("hello with something behind it", "hello", fields, control(0, append(bytes.Clone(body), "\x00later versions"...)))
	g.odd("hello of 128 bytes", "hello", fields, control(0, append(bytes.Clone(body), make([]byte, MaxHello-len(good))...)))
	g.odd("hello, padding that is not zero", "hello", fields, append(bytes.Clone(good), g.draw(7)...))

	g.refuse("hello of 129 bytes", "size", control(0, append(bytes.Clone(body), make([]byte, MaxHello+1-len(good))...)))
	g.refuse("hello, one byte of the version missing", "size", control(0, body[:len(body)-1]))
	g.refuse("hello, half of it", "size", control(0, body[:18]))
	g.refuse("hello, its type alone", "size", control(0, body[:1]))
	g.refuse("hello, mode 2", "mode", changed(good, HeaderSize+helloMode, 2))
	g.refuse("hello, no version", "version", changed(good, HeaderSize+helloVersionLength, 0))
	g.refuse("hello, version of 17 characters", "version", control(0, append(changed(body, helloVersionLength, 17), "12345678901234567"...)))
	for _, c := range []string{" ", "\n", "\x00", "\x1b", "_", "/", "\x7f", "\xe9"} {
		g.refuse("hello, version with byte "+hex.EncodeToString([]byte(c)), "version", changed(good, HeaderSize+helloVersion+1, c[0]))
	}
	g.refuse("hello, instance 0", "instance", changed(good, HeaderSize+helloInstance, make([]byte, 8)...))
	g.refuse("hello, sequence 0", "sequence", changed(good, HeaderSize+helloSequence, make([]byte, 4)...))
	g.refuse("hello, seen instance without seen sequence", "seen", changed(good, HeaderSize+helloSeenSequence, make([]byte, 4)...))
	g.refuse("hello, seen sequence without seen instance", "seen", changed(good, HeaderSize+helloSeenInstance, make([]byte, 8)...))
}

func (g *generator) controls() {
	token := map[string]any{"token": "00c0ffee0badcafe"}
	echo := g.say("echo", "echo", token)
	reply := g.say("echo reply", "echo reply", token)
	down := g.say("goodbye, going down", "goodbye", map[string]any{"reason": 0., "instance": "1f0e2d3c4b5a6978"})
	removed := g.say("goodbye, removed", "goodbye", map[string]any{"reason": 1., "instance": "1f0e2d3c4b5a6978"})
	g.odd("echo, padded by its sender", "echo", token, control(0, append(bytes.Clone(echo[HeaderSize:]), make([]byte, 84)...)))
	g.odd("echo with reserved flags and bytes set", "echo", token, changed(changed(echo, 1, 0xff), HeaderSize+1, 1, 2, 3))
	g.odd("echo reply with reserved bytes set", "echo reply", token, changed(reply, HeaderSize+1, 1, 2, 3))
	g.odd("goodbye with reserved bytes set", "goodbye", map[string]any{"reason": 1., "instance": "1f0e2d3c4b5a6978"}, changed(removed, HeaderSize+2, 1, 2))
	g.odd("goodbye for an unknown reason: read as going down", "goodbye", map[string]any{"reason": 0., "instance": "1f0e2d3c4b5a6978"}, changed(down, HeaderSize+1, 200))
	g.refuse("echo, one byte short", "size", control(0, echo[HeaderSize:len(echo)-1]))
	g.refuse("echo reply, one byte short", "size", control(0, reply[HeaderSize:len(reply)-1]))
	g.refuse("goodbye, one byte short", "size", control(0, down[HeaderSize:len(down)-1]))
	g.refuse("goodbye, instance 0", "instance", changed(down, HeaderSize+numberAt, make([]byte, 8)...))
	g.refuse("control without a body", "size", pad(control(0, nil)))
	g.refuse("control of type 0", "type", control(0, make([]byte, 12)))
	g.refuse("control of type 7", "type", control(0, append([]byte{7}, make([]byte, 11)...)))
	g.probes()
}

func (g *generator) probes() {
	fields := func(size float64, full bool) map[string]any {
		return map[string]any{"token": "0123456789abcdef", "size": size, "full": full}
	}
	g.say("probe, the smallest", "probe", fields(16, false))
	probe := g.say("probe of 96 bytes", "probe", fields(96, false))
	full := g.say("probe of 96 bytes, to be answered by as many", "probe", fields(96, true))
	reply := g.say("probe reply, small", "probe reply", fields(1440, false))
	fullReply := g.say("probe reply, as large as the probe", "probe reply", fields(96, true))
	g.odd("probe with a filling that is not zero", "probe", fields(96, true), changed(full, HeaderSize+controlSize, bytes.Repeat([]byte{0xa5}, 80)...))
	g.odd("probe with reserved flags set", "probe", fields(96, false), changed(changed(probe, 1, 0xff), HeaderSize+1, 0xfe))
	g.odd("probe reply that is between small and full", "probe reply", fields(1440, false), control(0, append(bytes.Clone(reply[HeaderSize:]), 1, 2, 3, 4, 5)))
	g.odd("probe reply that should be full and is not", "probe reply", fields(96, true), control(0, fullReply[HeaderSize:][:controlSize]))
	g.refuse("probe, one byte short", "size", control(0, probe[HeaderSize:][:controlSize-1]))
	g.refuse("probe reply, one byte short", "size", control(0, reply[HeaderSize:][:controlSize-1]))
	g.refuse("probe that is smaller than it says", "size", changed(probe, HeaderSize+sizeAt, 0, 97))
	g.refuse("probe that is larger than it says", "size", changed(probe, HeaderSize+sizeAt, 0, 95))
	g.refuse("probe that says to be smaller than any", "size", changed(probe, HeaderSize+sizeAt, 0, 15))
	g.refuse("probe reply larger than its probe", "size", changed(fullReply, HeaderSize+sizeAt, 0, 95))
	g.refuse("probe reply to a probe smaller than any", "size", changed(reply, HeaderSize+sizeAt, 0, 15))
}

func (g *generator) kinds() {
	frame := slices.Concat(g.draw(12), []byte{0x08, 0x06}, g.draw(28))
	g.say("frame", "frame", map[string]any{"partial": false, "frame": hex.EncodeToString(frame)})
	g.say("the smallest frame", "frame", map[string]any{"partial": false, "frame": hex.EncodeToString(frame[:14])})
	part := g.draw(21)
	first := g.say("fragment, the first of its whole", "fragment", map[string]any{"index": 0., "last": false, "part": hex.EncodeToString(part)})
	g.say("fragment, the last and eighth of its whole", "fragment", map[string]any{"index": 7., "last": true, "part": hex.EncodeToString(part[:1])})
	g.say("IPv4 packet", "packet", map[string]any{"partial": false, "packet": hex.EncodeToString(packet4(17, udp(g.draw(5), 0)))})
	g.say("IPv6 packet", "packet", map[string]any{"partial": false, "packet": hex.EncodeToString(packet6(58, g.draw(9)))})

	for _, c := range []byte{0x10, 0x35, 0x50, 0x75, 0x80, 0x95, 0xa0, 0xb5, 0xd5, 0xff} {
		g.refuse("first byte "+hex.EncodeToString([]byte{c}), "first byte", changed(packet4(17, udp(nil, 0)), 0, c))
	}
	g.refuse("a header of three bytes", "header", []byte{1, 0, 0})
	g.refuse("a header of one byte", "header", []byte{2})
	g.refuse("a body one byte longer than what is there", "length", changed(first[:HeaderSize+21], 3, 22))
	g.refuse("the length's bytes the wrong way round", "length", changed(first, 2, 21, 0))
	g.refuse("kind 0", "kind", make([]byte, 16))
	g.refuse("kind 4", "kind", changed(first, 0, 4))
	g.refuse("kind 15", "kind", changed(first, 0, 15))
	g.refuse("frame of 13 bytes", "frame", append(AppendHeader(nil, KindFrame, 0, 13), frame[:13]...))
	g.refuse("fragment, index 8", "index", changed(first, 1, 8<<1))
	g.refuse("fragment, index 127 and last", "index", changed(first, 1, 0xff))
	g.refuse("fragment, the first and the last one", "index", changed(first, 1, 1))
	g.refuse("fragment, empty", "part", AppendHeader(nil, KindFragment, FragmentFlags(1, false), 0))
	four, six := packet4(17, udp(g.draw(5), 0)), packet6(17, udp(g.draw(5), 0))
	g.refuse("IPv4 packet of 19 bytes", "packet", changed(four[:19], 2, 0, 19))
	g.refuse("IPv4 packet longer than what is there", "packet", four[:len(four)-1])
	g.refuse("IPv4 packet that says to be shorter than its header", "packet", changed(four, 2, 0, 19))
	g.refuse("IPv6 packet of 39 bytes", "packet", six[:39])
	g.refuse("IPv6 packet longer than what is there", "packet", six[:len(six)-1])
}

func (g *generator) partials() {
	// zero has a sum that comes out as 0.
	zero := udp(make([]byte, 4), 0)
	binary.BigEndian.PutUint16(zero[8:], ^wordSum(packet4(17, zero)[12:], []byte{0, 17, 0, 12}))
	for _, p := range []struct {
		name   string
		packet []byte
		field  int
	}{
		{"TCP, IPv4", packet4(6, tcp(g.draw(20))), 16},
		{"TCP, IPv4, odd length", packet4(6, tcp(g.draw(33))), 16},
		{"TCP, IPv6", packet6(6, tcp(g.draw(14))), 16},
		{"UDP, IPv4", packet4(17, udp(g.draw(5), 0)), 6},
		{"UDP, IPv6, nothing inside", packet6(17, udp(nil, 0)), 6},
		{"UDP, IPv4, sum that comes out as 0 and is written as ffff", packet4(17, zero), 6},
	} {
		header := 20
		if p.packet[0]>>4 == 6 {
			header = 40
		}
		binary.BigEndian.PutUint16(p.packet[header+p.field:], 0xdead) // it means nothing
		fields := sums(p.packet, 0, header, p.field)
		plaintext := pad(changed(p.packet, 0, p.packet[0]|PartialBit))
		g.Messages = append(g.Messages, messageVector{"partial packet: " + p.name, "packet", true, plaintext, fields})
	}
	g.partialFrames()

	four, six := packet4(6, tcp(g.draw(20))), packet6(6, tcp(g.draw(20)))
	refuse := func(name string, packet []byte) {
		g.refuse("partial packet: "+name, "packet", changed(packet, 0, packet[0]|PartialBit))
	}
	refuse("options", changed(four, 0, 0x46))
	refuse("more fragments", changed(four, 6, 0x20))
	refuse("a fragment that is not the first", changed(four, 6, 0, 1))
	refuse("ICMP", packet4(1, g.draw(20)))
	refuse("TCP header cut", packet4(6, g.draw(19)))
	refuse("UDP header cut", packet4(17, g.draw(7)))
	refuse("UDP longer than it says", packet4(17, changed(udp(g.draw(4), 0), 4, 0, 11)))
	refuse("UDP shorter than it says", packet6(17, changed(udp(g.draw(4), 0), 4, 0, 13)))
	refuse("IPv6, hop-by-hop options", packet6(0, append([]byte{6, 0, 5, 2, 0, 0, 1, 0}, tcp(nil)...)))
	refuse("IPv6, fragment header", packet6(44, append([]byte{6, 0, 0, 0, 0, 0, 0, 1}, tcp(nil)...)))
	refuse("longer than what is there", four[:len(four)-1])
	refuse("IPv6, longer than what is there", six[:len(six)-1])
}

func (g *generator) partialFrames() {
	tag := []byte{0x81, 0x00, 0x00, 0x2a}
	service := []byte{0x88, 0xa8, 0x01, 0x00}
	four, six := packet4(6, tcp(g.draw(20))), packet6(17, udp(g.draw(9), 0))
	addresses := g.draw(12)
	type4, type6 := []byte{0x08, 0x00}, []byte{0x86, 0xdd}
	for _, f := range []struct {
		name         string
		frame        []byte
		start, field int
	}{
		{"IPv4", slices.Concat(addresses, type4, four), 14 + 20, 16},
		{"IPv6, a VLAN tag", slices.Concat(addresses, tag, type6, six), 18 + 40, 6},
		{"IPv4, two VLAN tags", slices.Concat(addresses, service, tag, type4, four), 22 + 20, 16},
	} {
		header := 20
		if f.field == 6 {
			header = 40
		}
		fields := sums(f.frame, f.start-header, header, f.field)
		plaintext := pad(append(AppendHeader(nil, KindFrame, PartialFrame, len(f.frame)), f.frame...))
		g.Messages = append(g.Messages, messageVector{"partial frame: " + f.name, "frame", true, plaintext, fields})
	}
	refuse := func(name string, parts ...[]byte) {
		frame := slices.Concat(parts...)
		g.refuse("partial frame: "+name, "frame", append(AppendHeader(nil, KindFrame, PartialFrame, len(frame)), frame...))
	}
	refuse("three VLAN tags", addresses, service, tag, tag, type4, four)
	refuse("a trailer", addresses, type4, four, []byte{0})
	refuse("ARP", addresses, []byte{0x08, 0x06}, g.draw(28))
	refuse("EtherType of the other version", addresses, type6, four)
	refuse("cut in its VLAN tag", addresses, tag[:2])
	refuse("cut behind its VLAN tag", addresses, tag)
	refuse("nothing behind the EtherType", addresses, type4)
	refuse("more fragments", addresses, type4, changed(four, 6, 0x20))
}

func (g *generator) seals() {
	key, receiver := g.draw(chacha20poly1305.KeySize), uint32(0x8badf00d)
	for i, name := range []string{
		"keepalive", "hello, the first of a process", "hello in tap mode, version of 16 characters", "echo", "goodbye, going down",
		"frame", "partial packet: TCP, IPv4", "IPv6 packet",
	} {
		n := slices.IndexFunc(g.Messages, func(m messageVector) bool { return m.Name == name })
		counter := uint64(i)
		if name == "echo" {
			counter = 1<<32 + 5
		}
		s := g.seal(key, receiver, counter, g.Messages[n].Plaintext)
		s.Name = name
		g.Sealed = append(g.Sealed, s)
	}
}

// seal makes a transport message as the WireGuard paper has it.
func (g *generator) seal(key []byte, receiver uint32, counter uint64, plaintext []byte) sealedVector {
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		g.t.Fatal(err)
	}
	msg := binary.LittleEndian.AppendUint32([]byte{4, 0, 0, 0}, receiver)
	msg = binary.LittleEndian.AppendUint64(msg, counter)
	nonce := binary.LittleEndian.AppendUint64(make([]byte, 4), counter)
	return sealedVector{"", key, receiver, counter, plaintext, aead.Seal(msg, nonce, plaintext, nil)}
}

func (g *generator) fragments() {
	key, receiver := g.draw(chacha20poly1305.KeySize), uint32(1)
	counter := uint64(1<<40 - 2)
	fragment := func(index int, last bool, part []byte) []byte {
		return append(AppendHeader(nil, KindFragment, FragmentFlags(index, last), len(part)), part...)
	}
	series := func(name, why string, whole []byte, plaintexts ...[]byte) {
		v := fragmentedVector{Name: name, Why: why, Whole: whole}
		for _, p := range plaintexts {
			if index, _, ok := Flags(p[1]).Fragment(); ok {
				v.Messages = append(v.Messages, g.seal(key, receiver, counter+uint64(index), p))
			}
		}
		g.Fragmented = append(g.Fragmented, v)
		counter += MaxFragments
	}
	cut := func(name, why string, whole []byte, n int) {
		var plaintexts [][]byte
		size := (len(whole) + n - 1) / n
		for i := range n {
			part := whole[min(i*size, len(whole)):min((i+1)*size, len(whole))]
			// All of one size, with what the last part is shorter as padding.
			plaintexts = append(plaintexts, pad(append(fragment(i, i == n-1, part), make([]byte, size-len(part))...)))
		}
		series(name, why, whole, plaintexts...)
	}
	frame := slices.Concat(g.draw(12), []byte{0x08, 0x06}, g.draw(286))
	framed := append(AppendHeader(nil, KindFrame, 0, len(frame)), frame...)
	partial := packet6(6, tcp(g.draw(200)))
	partial[0] |= PartialBit
	cut("IPv4 packet in two parts", "", packet4(17, udp(g.draw(300), 0)), 2)
	cut("partial IPv6 packet in three parts", "", partial, 3)
	cut("frame in eight parts", "", framed, 8)
	whole := packet4(17, udp(g.draw(30), 0))
	series("parts of any sizes", "", whole, fragment(0, false, whole[:1]), fragment(1, false, whole[1:50]), fragment(2, true, whole[50:]))
	series("the last part comes first", "", whole, fragment(2, true, whole[50:]), fragment(0, false, whole[:1]), fragment(1, false, whole[1:50]))

	cut("a control message in parts", "whole", control(0, AppendEcho(nil, 1)[HeaderSize:]), 2)
	cut("a fragment in parts", "whole", fragment(1, true, g.draw(20)), 2)
	cut("an unknown first byte in parts", "whole", changed(whole, 0, 0x50), 2)
	cut("an IP packet in parts that is not complete", "packet", whole[:len(whole)-1], 2)
	series("two last parts", "whole", nil, fragment(3, true, whole), fragment(2, true, whole))
	series("a part beyond the last", "whole", nil, fragment(1, true, whole), fragment(2, false, whole))
	series("a last part before one that is there", "whole", nil, fragment(5, false, whole), fragment(4, true, whole))
	counter = 0
	g.Fragmented = append(g.Fragmented, fragmentedVector{Name: "an index greater than the counter", Why: "index", Messages: []sealedVector{g.seal(key, receiver, 2, fragment(3, false, whole))}})
}

// sums are what the stack is told of a partial packet whose IP header lies at and is
// header bytes long, with the checksum field this far behind it.
func sums(whole []byte, at, header, field int) map[string]any {
	packet, protocol := whole[at:], byte(17)
	if field == 16 {
		protocol = 6
	}
	segment := bytes.Clone(packet[header:])
	addresses := packet[12:20]
	if header == 40 {
		addresses = packet[8:40]
	}
	begun := wordSum(addresses, []byte{0, protocol}, []byte{byte(len(segment) >> 8), byte(len(segment))})
	binary.BigEndian.PutUint16(segment[field:], begun)
	sum := ^wordSum(segment)
	if sum == 0 && protocol == 17 {
		sum = 0xffff
	}
	with := func(sum uint16) string {
		return hex.EncodeToString(changed(whole, at+header+field, byte(sum>>8), byte(sum)))
	}
	return map[string]any{"partial": true, "csum_start": float64(at + header), "csum_offset": float64(field), "begun": with(begun), "completed": with(sum)}
}

// wordSum is the one's complement sum of 16-bit words (RFC 1071).
func wordSum(parts ...[]byte) uint16 {
	var sum uint32
	for _, p := range parts {
		for len(p) > 1 {
			sum += uint32(p[0])<<8 | uint32(p[1])
			p = p[2:]
		}
		if len(p) == 1 {
			sum += uint32(p[0]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

func packet4(protocol byte, payload []byte) []byte {
	p := slices.Concat([]byte{0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0, 10, 20, 0, 1, 10, 20, 0, 2}, payload)
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	binary.BigEndian.PutUint16(p[10:], ^wordSum(p[:20]))
	return p
}

func packet6(next byte, payload []byte) []byte {
	p := make([]byte, 40, 40+len(payload))
	p[0], p[6], p[7] = 0x60, next, 64
	binary.BigEndian.PutUint16(p[4:], uint16(len(payload)))
	p[8], p[9], p[23] = 0xfd, 0x20, 1
	p[24], p[25], p[39] = 0xfd, 0x20, 2
	return append(p, payload...)
}

func tcp(payload []byte) []byte {
	return slices.Concat([]byte{0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0}, payload)
}

func udp(payload []byte, sum uint16) []byte {
	n := 8 + len(payload)
	return slices.Concat([]byte{0x9c, 0x40, 0x13, 0x88, byte(n >> 8), byte(n), byte(sum >> 8), byte(sum)}, payload)
}
