package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// counted are the kernel's trace points that perf counts: the calls that
// tunnels make per packet or per burst, all calls together, and how often a
// thread gave up its CPU. Counting costs a fraction of a microsecond each, so
// that batches stay as large as they are without it; strace, which stops the
// program twice per call, would let them grow.
var counted = []string{
	"raw_syscalls:sys_enter", "sched:sched_switch",
	"syscalls:sys_enter_read", "syscalls:sys_enter_readv", "syscalls:sys_enter_write", "syscalls:sys_enter_writev",
	"syscalls:sys_enter_sendto", "syscalls:sys_enter_sendmsg", "syscalls:sys_enter_sendmmsg",
	"syscalls:sys_enter_recvfrom", "syscalls:sys_enter_recvmsg", "syscalls:sys_enter_recvmmsg",
	"syscalls:sys_enter_futex", "syscalls:sys_enter_epoll_pwait", "syscalls:sys_enter_epoll_wait",
	"syscalls:sys_enter_poll", "syscalls:sys_enter_pselect6", "syscalls:sys_enter_io_uring_enter",
	"syscalls:sys_enter_clock_gettime", "syscalls:sys_enter_nanosleep",
}

// known is those of counted that this kernel has: some calls are one
// processor's only.
var known = sync.OnceValue(func() (events []string) {
	list, _ := exec.Command("perf", "list", "--no-desc", "tracepoint").Output()
	has := make(map[string]bool)
	for _, word := range strings.Fields(string(list)) {
		has[word] = true
	}
	for _, event := range counted {
		if has[event] {
			events = append(events, event)
		}
	}
	return events
})

// calls counts the system calls of each end: per GB of one TCP stream, per
// 1,000 delivered datagrams of 64 bytes, and per ping on an idle tunnel.
func calls(ctx context.Context, w *world, secs int, s sample) error {
	if w.ends[0] == nil {
		return nil // no tunnel, no calls
	}
	if err := missing("perf"); err != nil {
		return err
	}
	const pings = 200
	own := make(sample) // the speeds of these runs are not for the tables
	for _, load := range []struct {
		name string
		work func() error
		unit func() float64 // how many units of traffic there were
	}{
		{"tcp1", func() error { return w.tcp(ctx, "tcp1", secs, own, "-P1") }, func() float64 { return own["tcp1.bytes"] / 1e9 }},
		{"udp64", func() error { return w.udp(ctx, "udp64", secs, 64, own) }, func() float64 { return own["udp64.delivered"] / 1e3 }},
		{"ping", func() error { return w.ping(ctx, "ping", pings, 5*time.Millisecond, own) }, func() float64 { return pings }},
	} {
		var counters [2]*counter
		for i := range counters {
			c, err := w.count(ctx, i)
			if err != nil {
				return err
			}
			counters[i] = c
			defer c.stop()
		}
		if err := load.work(); err != nil {
			return err
		}
		for i, c := range counters {
			counts, err := c.stop()
			if err != nil {
				return err
			}
			for event, n := range counts {
				_, name, _ := strings.Cut(event, ":")
				name = strings.TrimPrefix(name, "sys_enter_")
				switch name {
				case "sys_enter":
					name = "all"
				case "sched_switch":
					name = "sleeps"
				}
				if n > 0 || name == "all" || name == "sleeps" {
					s[fmt.Sprintf("calls.%s.%c.%s", load.name, "ab"[i], name)] = n / load.unit()
				}
			}
		}
	}
	return nil
}

// counter is a perf stat that counts what one end of the tunnel does.
type counter struct {
	cmd    *exec.Cmd
	order  *os.File // open as long as perf listens
	file   string
	result map[string]float64
}

// count begins to count at one end. It returns when perf does count.
func (w *world) count(ctx context.Context, end int) (*counter, error) {
	file := filepath.Join(w.dir, fmt.Sprintf("calls-%d", end))
	// perf takes orders and acknowledges them on descriptors 3 and 4.
	cmd := exec.CommandContext(ctx, "perf", "stat", "--delay=-1", "--control=fd:3,4", "-x,", "-o", file,
		"-e", strings.Join(known(), ","), "-p", pidList(w.pidsOf(end)))
	var said strings.Builder
	cmd.Stderr = &said
	orders, order, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer orders.Close()
	acknowledged, acknowledge, err := os.Pipe()
	if err != nil {
		order.Close()
		return nil, err
	}
	defer acknowledged.Close()
	cmd.ExtraFiles = []*os.File{orders, acknowledge}
	err = start(cmd)
	acknowledge.Close()
	if err != nil {
		order.Close()
		return nil, err
	}
	order.WriteString("enable\n")
	acknowledged.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, _ := acknowledged.Read(make([]byte, 16)); n == 0 {
		cmd.Process.Kill()
		cmd.Wait()
		order.Close()
		return nil, fmt.Errorf("perf stat cannot count system calls here: %s", strings.TrimSpace(said.String()))
	}
	return &counter{cmd: cmd, order: order, file: file}, nil
}

// stop ends the counting and returns how often each event was counted.
func (c *counter) stop() (map[string]float64, error) {
	if c.result != nil {
		return c.result, nil
	}
	c.cmd.Process.Signal(syscall.SIGINT)
	c.order.Close()
	c.cmd.Wait() // its status is that of the signal
	b, err := os.ReadFile(c.file)
	if err != nil {
		return nil, err
	}
	c.result = parseStat(string(b))
	if len(c.result) == 0 {
		return nil, errors.New("perf stat counted nothing")
	}
	return c.result, nil
}

// parseStat reads the output of perf stat -x, : count, unit, event, ...
func parseStat(text string) map[string]float64 {
	counts := make(map[string]float64)
	for line := range strings.Lines(text) {
		f := strings.Split(line, ",")
		if len(f) < 3 || strings.HasPrefix(line, "#") {
			continue
		}
		n, err := strconv.ParseFloat(f[0], 64)
		if err != nil { // "<not counted>": it did not happen
			n = 0
		}
		counts[f[2]] += n
	}
	return counts
}

func pidList(pids []int) string {
	var texts []string
	for _, pid := range pids {
		texts = append(texts, strconv.Itoa(pid))
	}
	return strings.Join(texts, ",")
}
