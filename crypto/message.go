package crypto

import "encoding/binary"

// An Index names a session at the end that made it up: 32 random bits.
type Index uint32

// A Counter numbers the transport messages sealed under one key, and is their
// nonce.
type Counter uint64

// Limits on the messages of one keypair (whitepaper, section 6.1). Counters from
// RejectAfterMessages on are neither sealed nor opened.
const (
	RekeyAfterMessages  Counter = 1 << 60
	RejectAfterMessages Counter = 1<<64 - 1<<13 - 1
)

const _ = RejectAfterMessages - RekeyAfterMessages // negative: does not compile

// Sizes of whole messages in bytes.
const (
	InitiationSize      = 148
	ResponseSize        = 92
	CookieReplySize     = 64
	KeepaliveSize       = 32 // a transport message of nothing
	TransportHeaderSize = 16
	TransportOverhead   = TransportHeaderSize + tagSize // what sealing adds
)

const (
	headerSize    = 4 // the type, then three reserved bytes, zero
	indexSize     = 4
	counterSize   = 8
	timestampSize = 12
	tagSize       = 16 // Poly1305
	macSize       = 16 // MAC1, MAC2 and cookies
	nonceSizeX    = 24 // XChaCha20
)

// Where the fields lie (whitepaper, sections 5.4.2, 5.4.3, 5.4.6 and 5.4.7). A
// sender's index follows the header at once; a handshake message ends in MAC1 and
// MAC2.
const (
	senderAt = headerSize

	initiationNoise = senderAt + indexSize // Noise's first message: ephemeral, static, timestamp
	initiationMAC1  = initiationNoise + KeySize + (KeySize + tagSize) + (timestampSize + tagSize)

	responseReceiver = senderAt + indexSize
	responseNoise    = responseReceiver + indexSize // Noise's second message: ephemeral, nothing
	responseMAC1     = responseNoise + KeySize + tagSize

	cookieReceiver = headerSize
	cookieNonce    = cookieReceiver + indexSize
	cookieSealed   = cookieNonce + nonceSizeX

	transportReceiver = headerSize
	transportCounter  = transportReceiver + indexSize
	transportSealed   = transportCounter + counterSize
)

// Both sides of each assertion must agree or this file does not compile.
var (
	_ [InitiationSize]byte      = [initiationMAC1 + 2*macSize]byte{}
	_ [ResponseSize]byte        = [responseMAC1 + 2*macSize]byte{}
	_ [CookieReplySize]byte     = [cookieSealed + macSize + tagSize]byte{}
	_ [TransportHeaderSize]byte = [transportSealed]byte{}
	_ [KeepaliveSize]byte       = [TransportOverhead]byte{}
)

// A MessageType is the first byte of a message.
type MessageType uint8

// The four types of message.
const (
	TypeInitiation MessageType = 1 + iota
	TypeResponse
	TypeCookieReply
	TypeTransport
)

// String names the type as the whitepaper does.
func (t MessageType) String() string {
	switch t {
	case TypeInitiation:
		return "initiation"
	case TypeResponse:
		return "response"
	case TypeCookieReply:
		return "cookie reply"
	case TypeTransport:
		return "transport"
	}
	return "unknown"
}

// Type returns the type of a datagram, and whether it has that type's shape: the
// three reserved bytes are zero, and the length is exactly 148, 92 or 64 bytes, or
// at least 32 for a transport message. It says nothing about authenticity.
func Type(msg []byte) (MessageType, bool) {
	if len(msg) < KeepaliveSize || msg[1]|msg[2]|msg[3] != 0 {
		return 0, false
	}
	t := MessageType(msg[0])
	switch t {
	case TypeInitiation:
		return t, len(msg) == InitiationSize
	case TypeResponse:
		return t, len(msg) == ResponseSize
	case TypeCookieReply:
		return t, len(msg) == CookieReplySize
	case TypeTransport:
		return t, true
	}
	return 0, false
}

// Sender returns the sender's index of an initiation or a response that has passed
// [Type].
func Sender(msg []byte) Index {
	return Index(binary.LittleEndian.Uint32(msg[senderAt:]))
}

// Receiver returns the receiver's index of a response, a cookie reply or a
// transport message that has passed [Type].
func Receiver(msg []byte) Index {
	if MessageType(msg[0]) == TypeResponse {
		return Index(binary.LittleEndian.Uint32(msg[responseReceiver:]))
	}
	return Index(binary.LittleEndian.Uint32(msg[transportReceiver:]))
}

// MessageCounter returns the counter of a transport message that has passed
// [Type].
func MessageCounter(msg []byte) Counter {
	return Counter(binary.LittleEndian.Uint64(msg[transportCounter:]))
}

func putHeader(msg []byte, t MessageType) {
	binary.LittleEndian.PutUint32(msg, uint32(t))
}

func putIndex(b []byte, i Index) {
	binary.LittleEndian.PutUint32(b, uint32(i))
}
