package extension_test

import (
	"encoding/hex"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

// A second implementation of what a receiver does, written from
// docs/protocol-extensions.md alone. It imports nothing of ours and is as plain as
// can be: numbers are strings of hexadecimal digits, what is refused is a panic with
// the page's word.

type refused string

// decoder is the receiving end of one session.
type decoder struct {
	key    []byte
	wholes map[uint64]map[int]part // by id, then by index
}

type part struct {
	last bool
	text string
}

// message is what a plaintext says: fields by their names in the vectors.
type message struct {
	is     string
	fields map[string]any
}

// open opens a transport message.
func (d *decoder) open(msg string) (counter uint64, plaintext string) {
	aead, err := chacha20poly1305.New(d.key)
	if err != nil {
		panic(err)
	}
	if len(msg) < 32 || msg[:4] != "\x04\x00\x00\x00" {
		panic(refused("no transport message"))
	}
	for i := range 8 { // little endian
		counter |= uint64(msg[8+i]) << (8 * i)
	}
	opened, err := aead.Open(nil, []byte("\x00\x00\x00\x00"+msg[8:16]), []byte(msg[16:]), nil)
	if err != nil {
		panic(refused("not authentic"))
	}
	return counter, string(opened)
}

// decode takes the plaintext of the message with this counter. It returns nil for a
// fragment whose whole is not complete, with the fragment itself.
func (d *decoder) decode(counter uint64, plaintext string) (m message, fragment map[string]any, why refused) {
	defer func() {
		if r := recover(); r != nil {
			why = r.(refused) // anything else is a fault of the decoder
		}
	}()
	if plaintext == "" {
		return message{"keepalive", map[string]any{}}, nil, ""
	}
	if plaintext[0] == 3 {
		flags, body := split(plaintext)
		fragment = readFragment(flags, body)
		whole := d.gather(counter, int(flags>>1), part{flags&1 == 1, body})
		if whole == "" {
			return message{}, fragment, ""
		}
		if !strings.ContainsRune("46ce", rune(hex.EncodeToString([]byte(whole[:1]))[0])) && whole[0] != 2 {
			panic(refused("whole"))
		}
		plaintext = whole
	}
	return read(plaintext), fragment, ""
}

func (d *decoder) gather(counter uint64, index int, p part) (whole string) {
	if uint64(index) > counter {
		panic(refused("index"))
	}
	id := counter - uint64(index)
	if d.wholes == nil {
		d.wholes = map[uint64]map[int]part{}
	}
	if d.wholes[id] == nil {
		d.wholes[id] = map[int]part{}
	}
	parts := d.wholes[id]
	parts[index] = p
	size, lasts, last, greatest := 0, 0, 0, 0
	for i, p := range parts {
		size += len(p.text)
		greatest = max(greatest, i)
		if p.last {
			lasts++
			last = i
		}
	}
	if lasts > 1 || lasts == 1 && greatest > last || size > 65535 {
		delete(d.wholes, id)
		panic(refused("whole"))
	}
	if lasts == 0 || len(parts) != last+1 {
		return ""
	}
	for i := range len(parts) {
		whole += parts[i].text
	}
	delete(d.wholes, id)
	return whole
}

// read takes a plaintext that is no fragment.
func read(plaintext string) message {
	first := plaintext[0]
	switch {
	case first == 0x01:
		return readControl(split(plaintext))
	case first == 0x02:
		return readFrame(split(plaintext))
	case first < 0x10:
		split(plaintext)
		panic(refused("kind"))
	}
	switch first & 0xf0 {
	case 0x40, 0x60:
		return message{"packet", map[string]any{"partial": false, "packet": digits(cutPacket(plaintext))}}
	case 0xc0, 0xe0:
		packet := cutPacket(string([]byte{first - 0x80}) + plaintext[1:])
		fields := map[string]any{"partial": true}
		describeSum(fields, packet, 0, "packet")
		return message{"packet", fields}
	}
	panic(refused("first byte"))
}

func split(plaintext string) (flags byte, body string) {
	if len(plaintext) < 4 {
		panic(refused("header"))
	}
	n := int(number(plaintext[2:4]))
	if n > len(plaintext[4:]) {
		panic(refused("length"))
	}
	return plaintext[1], plaintext[4 : 4+n]
}

func readControl(flags byte, body string) message {
	if body == "" {
		panic(refused("size"))
	}
	switch body[0] {
	case 1:
		return readHello(flags, body)
	case 2, 3:
		if len(body) < 12 {
			panic(refused("size"))
		}
		return message{map[byte]string{2: "echo", 3: "echo reply"}[body[0]], map[string]any{"token": digits(body[4:12])}}
	case 4:
		if len(body) < 12 {
			panic(refused("size"))
		}
		if number(body[4:12]) == 0 {
			panic(refused("instance"))
		}
		reason := 0.
		if body[1] == 1 {
			reason = 1
		}
		return message{"goodbye", map[string]any{"reason": reason, "instance": digits(body[4:12])}}
	case 5, 6:
		if len(body) < 12 {
			panic(refused("size"))
		}
		size := int(number(body[2:4]))
		if body[0] == 5 && size != len(body)+4 || size < len(body)+4 {
			panic(refused("size"))
		}
		return message{map[byte]string{5: "probe", 6: "probe reply"}[body[0]], map[string]any{
			"token": digits(body[4:12]), "size": float64(size), "full": body[1]%2 == 1,
		}}
	}
	panic(refused("type"))
}

func readHello(flags byte, body string) message {
	if len(body) < 32 || len(body)+4 > 128 {
		panic(refused("size"))
	}
	mode, v, rest := body[1], int(body[2]), body[32:]
	if mode > 1 {
		panic(refused("mode"))
	}
	if v < 1 || v > 16 {
		panic(refused("version"))
	}
	if v > len(rest) {
		panic(refused("size"))
	}
	for _, c := range []byte(rest[:v]) {
		if !strings.Contains("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.+-", string(rune(c))) {
			panic(refused("version"))
		}
	}
	if number(body[8:16]) == 0 {
		panic(refused("instance"))
	}
	if number(body[16:20]) == 0 {
		panic(refused("sequence"))
	}
	if (number(body[20:28]) == 0) != (number(body[28:32]) == 0) {
		panic(refused("seen"))
	}
	return message{"hello", map[string]any{
		"wanted": flags%2 == 1, "mode": []string{"tun", "tap"}[mode], "capabilities": digits(body[4:8]),
		"instance": digits(body[8:16]), "sequence": float64(number(body[16:20])),
		"seen_instance": digits(body[20:28]), "seen_sequence": float64(number(body[28:32])),
		"version": rest[:v],
	}}
}

func readFragment(flags byte, body string) map[string]any {
	if flags > 15 || flags == 1 {
		panic(refused("index"))
	}
	if body == "" {
		panic(refused("part"))
	}
	return map[string]any{"index": float64(flags >> 1), "last": flags&1 == 1, "part": digits(body)}
}

func readFrame(flags byte, body string) message {
	if len(body) < 14 {
		panic(refused("frame"))
	}
	if flags&1 == 0 {
		return message{"frame", map[string]any{"partial": false, "frame": digits(body)}}
	}
	at := 12
	for range 2 {
		if tag := body[at : at+2]; tag == "\x81\x00" || tag == "\x88\xa8" {
			at += 4
		}
		if len(body) < at+2 {
			panic(refused("frame"))
		}
	}
	packet := body[at+2:]
	version := map[string]string{"\x08\x00": "4", "\x86\xdd": "6"}[body[at:at+2]]
	if version == "" || packet == "" || digits(packet)[:1] != version {
		panic(refused("frame"))
	}
	fields := map[string]any{"partial": true}
	describeSum(fields, body, at+2, "frame")
	return message{"frame", fields}
}

// cutPacket takes the padding off an IP packet.
func cutPacket(b string) string {
	if b[0]>>4 == 4 && len(b) >= 20 {
		if n := int(number(b[2:4])); n >= 20 && n <= len(b) {
			return b[:n]
		}
	}
	if b[0]>>4 == 6 && len(b) >= 40 {
		if n := 40 + int(number(b[4:6])); n <= len(b) {
			return b[:n]
		}
	}
	panic(refused("packet"))
}

// describeSum holds a packet, which begins at, against the rules for partial ones,
// and adds to fields what the stack is to be told.
func describeSum(fields map[string]any, whole string, at int, what refused) {
	ip := whole[at:]
	must := func(ok bool) {
		if !ok {
			panic(what)
		}
	}
	var header int
	var protocol byte
	var addresses string
	if ip[0]>>4 == 4 {
		must(len(ip) >= 20)
		must(ip[0] == 0x45)                   // no options
		must(ip[6]&0x20 == 0)                 // no more fragments
		must(ip[6]&0x1f == 0 && ip[7] == 0)   // offset
		must(int(number(ip[2:4])) == len(ip)) // total length
		header, protocol, addresses = 20, ip[9], ip[12:20]
	} else {
		must(len(ip) >= 40)
		must(40+int(number(ip[4:6])) == len(ip))
		header, protocol, addresses = 40, ip[6], ip[8:40]
	}
	above := ip[header:]
	var offset int
	switch protocol {
	case 6:
		must(len(above) >= 20)
		offset = 16
	case 17:
		must(len(above) >= 8)
		must(int(number(above[4:6])) == len(above))
		offset = 6
	default:
		must(false)
	}
	pseudo := onesComplement(addresses, string([]byte{0, protocol}), string([]byte{byte(len(above) >> 8), byte(len(above))}))
	write := func(sum uint16) string {
		field := at + header + offset
		return digits(whole[:field] + string([]byte{byte(sum >> 8), byte(sum)}) + whole[field+2:])
	}
	sum := ^onesComplement(string([]byte{byte(pseudo >> 8), byte(pseudo)}), above[:offset], above[offset+2:])
	if sum == 0 && protocol == 17 {
		sum = 0xffff
	}
	fields["csum_start"], fields["csum_offset"] = float64(at+header), float64(offset)
	fields["begun"], fields["completed"] = write(pseudo), write(sum)
}

// onesComplement adds texts of even lengths (the last may be odd) in 16-bit words.
func onesComplement(texts ...string) uint16 {
	sum := uint64(0)
	for _, text := range texts {
		if len(text)%2 == 1 {
			text += "\x00"
		}
		for i := 0; i < len(text); i += 2 {
			sum += number(text[i : i+2])
		}
	}
	if sum == 0 {
		return 0
	}
	if sum %= 0xffff; sum == 0 {
		return 0xffff
	}
	return uint16(sum)
}

func number(bytes string) (n uint64) {
	for i := range len(bytes) {
		n = n<<8 + uint64(bytes[i])
	}
	return n
}

func digits(bytes string) string { return hex.EncodeToString([]byte(bytes)) }
