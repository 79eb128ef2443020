package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// split is where the CPU time of one end went: samples by the parts below.
type split map[string]float64

// parts are the rows of the profile table, in its order.
var parts = []string{
	"AEAD", "checksums", "copies", "the program's own code", "runtime and libraries",
	"kernel: TUN read", "kernel: TUN write", "kernel: UDP send", "kernel: UDP receive",
	"kernel: waiting and waking", "kernel: interrupts", "kernel: other",
}

// Two parts of the kernel's time whatever it was called for: they are in the
// parts above too, and the table says them last.
const kernelCopies, kernelSums = "(copies in the kernel)", "(checksums in the kernel)"

func (s split) total() (n float64) {
	for _, part := range parts {
		n += s[part]
	}
	return n
}

// profiled is the profile of a tunnel under one TCP stream: of the end that
// sends the data and of the one that receives them, and what they cost.
type profiled struct {
	Sender, Receiver split
	SecondsPerGB     [2]float64 // CPU, at each end
	GBPerSecond      float64
}

// profile records both ends under one TCP stream with perf.
func (w *world) profile(ctx context.Context, secs int) (*profiled, error) {
	if err := missing("perf"); err != nil {
		return nil, err
	}
	file := filepath.Join(w.dir, "perf.data")
	// Samples by the clock: virtual machines often have no cycle counter.
	// Frame pointers suffice: Go and the kernel keep them.
	record := exec.CommandContext(ctx, "perf", "record", "-q", "-e", "cpu-clock", "-F", "997", "-g", "-o", file, "-p", pidList(w.pids()))
	var said bytes.Buffer
	record.Stderr = &said
	if err := start(record); err != nil {
		return nil, err
	}
	var before [2]float64
	for i := range before {
		before[i] = cpuOf(w.pidsOf(i))
	}
	s := make(sample)
	err := w.tcp(ctx, "tcp1", secs, s, "-P1")
	p := &profiled{GBPerSecond: s["tcp1.gbps"] / 8}
	for i := range before {
		p.SecondsPerGB[i] = (cpuOf(w.pidsOf(i)) - before[i]) / (s["tcp1.bytes"] / 1e9)
	}
	record.Process.Signal(syscall.SIGINT)
	record.Wait() // its status is that of the signal
	if err != nil {
		return nil, err
	}
	for i, s := range []*split{&p.Sender, &p.Receiver} {
		if *s, err = splitFile(ctx, file, w.pidsOf(i)); err != nil {
			return nil, fmt.Errorf("%w: %s", err, &said)
		}
	}
	return p, nil
}

// splitFile splits what perf record wrote to file; of all processes where
// pids is empty.
func splitFile(ctx context.Context, file string, pids []int) (split, error) {
	args := []string{"script", "-i", file, "-F", "comm,pid,ip,sym,dso"}
	if len(pids) > 0 {
		args = append(args, "--pid="+pidList(pids))
	}
	cmd := exec.CommandContext(ctx, "perf", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := start(cmd); err != nil {
		return nil, err
	}
	s := splitScript(out)
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("perf script: %w: %s", err, &stderr)
	}
	if s.total() == 0 {
		return nil, fmt.Errorf("perf has no samples of %v", pids)
	}
	return s, nil
}

// frame is one line of a call chain.
type frame struct {
	symbol string
	kernel bool
}

// splitScript reads the output of perf script -F comm,pid,ip,sym,dso: per
// sample a line that is not indented, then the call chain, innermost first,
// then an empty line.
func splitScript(r io.Reader) split {
	s := make(split)
	var chain []frame
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case line == "":
			s.add(chain)
			chain = chain[:0]
		case line[0] == ' ' || line[0] == '\t':
			if f := strings.Fields(line); len(f) >= 2 {
				dso := f[len(f)-1]
				symbol, _, _ := strings.Cut(strings.Join(f[1:len(f)-1], " "), "+0x")
				chain = append(chain, frame{symbol, isKernel(dso, f[0])})
			}
		}
	}
	s.add(chain)
	return s
}

// isKernel says whether an address is the kernel's: by the file's name, or, for
// modules and what has none, by the upper half of the address space.
func isKernel(dso, ip string) bool {
	n, err := strconv.ParseUint(ip, 16, 64)
	return strings.Contains(dso, "kernel") || err == nil && n>>63 == 1
}

func (s split) add(chain []frame) {
	if len(chain) == 0 {
		return
	}
	if !chain[0].kernel {
		s[userPart(chain)]++
		return
	}
	s[kernelPart(chain)]++
	switch {
	case inKernelCopy.MatchString(chain[0].symbol):
		s[kernelCopies]++
	case inKernelSum.MatchString(chain[0].symbol):
		s[kernelSums]++
	}
}

var (
	inAEAD    = regexp.MustCompile(`(?i)chacha|poly1305|/crypto\.|salsa|umac|uhash|aes|EVP_|SHA256|sha256|gcm`)
	inSum     = regexp.MustCompile(`(?i)checksum|/device\.(sum|fold|pseudo)|csum`)
	inCopy    = regexp.MustCompile(`^(runtime\.mem(move|clr)|_*mem(cpy|move|set))`)
	inRuntime = regexp.MustCompile(`^(runtime|internal|sync|syscall|reflect|type:|gcWriteBarrier|golang\.org/x/sys|_|\[unknown\]|pthread|malloc|free|cfree|read$|write$|poll$|send|recv)`)

	inKernelCopy = regexp.MustCompile(`rep_movs|copy_user|copy_to_user|copy_from_user|copy_to_iter|copy_from_iter|^memcpy|^__memcpy|memmove|skb_copy`)
	inKernelSum  = regexp.MustCompile(`csum`)
)

// userPart judges by the innermost function, but for memory moves of the AEAD
// itself, which are small and stay with the copies.
func userPart(chain []frame) string {
	symbol := chain[0].symbol
	switch {
	case inCopy.MatchString(symbol):
		return "copies"
	case inSum.MatchString(symbol):
		return "checksums"
	case inAEAD.MatchString(symbol):
		return "AEAD"
	case inRuntime.MatchString(symbol):
		return "runtime and libraries"
	}
	return "the program's own code"
}

// calledFor is what the tunnel called the kernel for, by the functions that
// begin it: the outermost in a call chain decides. What a packet sets off in
// the same breath (the other host's stack, over the veth) is in the call that
// sent it.
var calledFor = []struct {
	symbol *regexp.Regexp
	part   string
}{
	{regexp.MustCompile(`^tun_(chr_read|do_read|recvmsg)`), "kernel: TUN read"},
	{regexp.MustCompile(`^tun_(chr_write|get_user|sendmsg)`), "kernel: TUN write"},
	{regexp.MustCompile(`^(__sys_send|___sys_sendmsg|sock_sendmsg|udpv?6?_sendmsg)`), "kernel: UDP send"},
	{regexp.MustCompile(`^(__sys_recv|___sys_recvmsg|do_recvmmsg|sock_recvmsg|udpv?6?_recvmsg)`), "kernel: UDP receive"},
	{regexp.MustCompile(`futex|epoll|do_sys_poll|nanosleep|pselect|core_sys_select|^schedule`), "kernel: waiting and waking"},
}

// An interrupt outside of any of these calls.
var interrupt = regexp.MustCompile(`sysvec|_interrupt|^handle_softirqs|^__irq_exit`)

func kernelPart(chain []frame) string {
	part := "kernel: other"
	for _, f := range slices.Backward(chain) {
		if !f.kernel {
			continue
		}
		for _, c := range calledFor {
			if c.symbol.MatchString(f.symbol) {
				return c.part
			}
		}
		if interrupt.MatchString(f.symbol) {
			part = "kernel: interrupts"
		}
	}
	return part
}

// printSplit prints the split of a file of perf record as a table.
func printSplit(ctx context.Context, out io.Writer, file string) error {
	if _, err := os.Stat(file); err != nil {
		return err
	}
	s, err := splitFile(ctx, file, nil)
	if err != nil {
		return err
	}
	total := s.total()
	for _, part := range append(parts[:len(parts):len(parts)], kernelCopies, kernelSums) {
		fmt.Fprintf(out, "%-28s %5.1f %%\n", part, 100*s[part]/total)
	}
	return nil
}
