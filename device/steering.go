package device

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Steering is which of several queues gets a packet that the stack sends. A TUN
// remembers for a flow the queue that its last packet in the other direction was
// written to. For a tunnel that is wrong twice: all that comes from one remote
// host comes by one queue, so that all flows to it would share that one, and
// whenever a flow changes its queue, what waits in the old one is overtaken.
//
// So a program is given to the kernel (TUNSETSTEERINGEBPF, Linux 4.16) that
// chooses by a hash of what does not change in a flow: addresses, protocol and,
// but for fragments, ports.

// insn is struct bpf_insn.
type insn struct {
	code     uint8
	register uint8 // destination, and source << 4
	jump     int16
	value    int32
}

// Registers that survive the loading of packet bytes, which go to the first.
const (
	regLoaded   = 0
	regContext  = 1
	regPacket   = 6
	regHash     = 7
	regProtocol = 8
	regFactor   = 9
)

const (
	alu64 = unix.BPF_ALU64
	fromX = unix.BPF_X
)

func load(size uint8, at int32) insn { return insn{unix.BPF_LD | unix.BPF_ABS | size, 0, 0, at} }

// stir takes what was loaded into the hash.
var stir = []insn{
	{alu64 | unix.BPF_MUL | fromX, regHash | regFactor<<4, 0, 0},
	{alu64 | unix.BPF_ADD | fromX, regHash | regLoaded<<4, 0, 0},
}

func jump(test uint8, register uint8, value int32, over int) insn {
	return insn{unix.BPF_JMP | test, register, int16(over), value}
}

// hashEnd makes the hash the answer.
var hashEnd = []insn{
	{alu64 | unix.BPF_MUL | fromX, regHash | regFactor<<4, 0, 0},
	{alu64 | unix.BPF_RSH, regHash, 0, 32},
	{alu64 | unix.BPF_MOV | fromX, regLoaded | regHash<<4, 0, 0},
	{unix.BPF_JMP | unix.BPF_EXIT, 0, 0, 0},
}

// steeringProgram hashes an IP packet, or a frame; of what ends too soon the
// answer is 0.
func steeringProgram(ethernet bool) []insn {
	const factor = 0x9E3779B97F4A7C15 // odd, and its bits are well mixed
	const high, low = factor >> 32, factor & 0xffffffff
	program := []insn{
		{alu64 | unix.BPF_MOV | fromX, regPacket | regContext<<4, 0, 0},
		{alu64 | unix.BPF_MOV, regHash, 0, 0},
		{unix.BPF_LD | unix.BPF_IMM | unix.BPF_DW, regFactor, 0, signed(low)},
		{0, 0, 0, signed(high)},
	}
	if ethernet {
		return append(program, hashFrame()...)
	}
	v4 := hashIPv4(0)
	program = append(program,
		load(unix.BPF_B, 0),
		insn{alu64 | unix.BPF_RSH, regLoaded, 0, 4},
		jump(unix.BPF_JEQ, regLoaded, 6, len(v4)))
	return append(append(program, v4...), hashIPv6(0)...)
}

// hashFrame hashes the IP packet in a frame, behind one tag if need be, and of
// any other frame the addresses.
func hashFrame() (program []insn) {
	etherType := func(at int32) (block []insn) {
		v4, v6 := hashIPv4(at+etherTypeSize), hashIPv6(at+etherTypeSize)
		block = append(block, load(unix.BPF_H, at), jump(unix.BPF_JNE, regLoaded, unix.ETH_P_IP, len(v4)))
		block = append(append(block, v4...), jump(unix.BPF_JNE, regLoaded, unix.ETH_P_IPV6, len(v6)))
		return append(block, v6...)
	}
	tagged := etherType(frameAddresses + vlanTag)
	program = append(etherType(frameAddresses),
		jump(unix.BPF_JEQ, regLoaded, unix.ETH_P_8021Q, 1),
		jump(unix.BPF_JNE, regLoaded, unix.ETH_P_8021AD, len(tagged)))
	program = append(program, tagged...)
	for at := int32(0); at < frameAddresses; at += 4 {
		program = append(append(program, load(unix.BPF_W, at)), stir...)
	}
	return append(program, hashEnd...)
}

// portsOf hashes the ports that the instructions load, if the protocol has any.
func portsOf(loading ...insn) (program []insn) {
	ports := append(loading, stir...)
	program = []insn{
		jump(unix.BPF_JEQ, regProtocol, unix.IPPROTO_TCP, 1),
		jump(unix.BPF_JNE, regProtocol, unix.IPPROTO_UDP, len(ports)),
	}
	return append(program, ports...)
}

// hashIPv4 hashes a packet that begins at network, and ends the program.
func hashIPv4(network int32) (program []insn) {
	for _, at := range []int32{12, 16} {
		program = append(append(program, load(unix.BPF_W, network+at)), stir...)
	}
	program = append(append(program, load(unix.BPF_B, network+9)), stir...)
	program = append(program, insn{alu64 | unix.BPF_MOV | fromX, regProtocol | regLoaded<<4, 0, 0})
	ports := portsOf(
		load(unix.BPF_B, network),
		insn{alu64 | unix.BPF_AND, regLoaded, 0, 15},
		insn{alu64 | unix.BPF_LSH, regLoaded, 0, 2},
		insn{unix.BPF_LD | unix.BPF_IND | unix.BPF_W, regLoaded << 4, 0, network})
	program = append(program,
		load(unix.BPF_H, network+6),
		insn{alu64 | unix.BPF_AND, regLoaded, 0, 0x3fff}, // more fragments, and the offset
		jump(unix.BPF_JNE, regLoaded, 0, len(ports)))
	return append(append(program, ports...), hashEnd...)
}

// hashIPv6 is hashIPv4 for IPv6.
func hashIPv6(network int32) (program []insn) {
	for at := int32(8); at < 40; at += 4 {
		program = append(append(program, load(unix.BPF_W, network+at)), stir...)
	}
	program = append(append(program, load(unix.BPF_B, network+6)), stir...)
	program = append(program, insn{alu64 | unix.BPF_MOV | fromX, regProtocol | regLoaded<<4, 0, 0})
	return append(append(program, portsOf(load(unix.BPF_W, network+40))...), hashEnd...)
}

func signed(v uint32) int32 { return int32(v) }

// steer has the kernel choose the queue of each packet by its flow. It needs
// rights that an ordinary user may lack; flows keep to one queue each without,
// but for the moments described above.
func steer(tun int, ethernet bool) error {
	program, license := steeringProgram(ethernet), []byte("MIT\x00")
	// The beginning of union bpf_attr for BPF_PROG_LOAD.
	var pins runtime.Pinner
	defer pins.Unpin()
	pins.Pin(&program[0])
	pins.Pin(&license[0])
	attr := struct {
		kind, instructions uint32
		insns, license     uint64
		logLevel, logSize  uint32
		log                uint64
		version, flags     uint32
	}{
		kind: unix.BPF_PROG_TYPE_SOCKET_FILTER, instructions: uint32(len(program)),
		insns: uint64(uintptr(unsafe.Pointer(&program[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		return errno
	}
	defer func() { _ = unix.Close(int(fd)) }() // the TUN holds it
	return unix.IoctlSetPointerInt(tun, unix.TUNSETSTEERINGEBPF, int(fd))
}

// unsteer takes the program away again.
func unsteer(tun int) { _ = unix.IoctlSetPointerInt(tun, unix.TUNSETSTEERINGEBPF, -1) }
