package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// sample is the figures of one tunnel in one round, by the keys of metrics.go.
type sample map[string]float64

// test is something to measure in a world. It adds its figures to the sample.
type test struct {
	name    string
	about   string
	measure func(ctx context.Context, w *world, secs int, s sample) error
}

var tests = []test{
	{"tcp1", "one TCP stream, a to b", func(ctx context.Context, w *world, secs int, s sample) error {
		return w.tcp(ctx, "tcp1", secs, s, "-P1")
	}},
	{"tcp4", "four TCP streams, a to b", func(ctx context.Context, w *world, secs int, s sample) error {
		return w.tcp(ctx, "tcp4", secs, s, "-P4")
	}},
	{"reverse", "one TCP stream, b to a", func(ctx context.Context, w *world, secs int, s sample) error {
		return w.tcp(ctx, "reverse", secs, s, "-P1", "-R")
	}},
	{"udp64", "UDP as fast as it goes, 64 bytes", func(ctx context.Context, w *world, secs int, s sample) error {
		return w.udp(ctx, "udp64", secs, 64, s)
	}},
	{"udp1372", "UDP as fast as it goes, 1372 bytes", func(ctx context.Context, w *world, secs int, s sample) error {
		return w.udp(ctx, "udp1372", secs, 1372, s)
	}},
	{"ping", "ping on an idle tunnel", func(ctx context.Context, w *world, _ int, s sample) error {
		return w.ping(ctx, "ping", 400, 5*time.Millisecond, s)
	}},
	{"loadping", "ping while one TCP stream runs", loadPing},
	{"calls", "system calls and sleeps (needs perf)", calls},
	{"profile", "where the CPU time goes (needs perf)", nil}, // once, after the rounds: profile.go
}

// iperf is what we read of an iperf3 result.
type iperf struct {
	Error string
	End   struct {
		Sum         iperfSum // UDP
		SumReceived iperfSum `json:"sum_received"` // TCP
		SumSent     iperfSum `json:"sum_sent"`
	}
}

type iperfSum struct {
	Seconds     float64
	Bytes       float64
	Packets     float64
	Lost        float64 `json:"lost_packets"`
	Retransmits float64
}

// iperf runs an iperf3 client on a.
func (w *world) iperf(ctx context.Context, secs int, args ...string) (r iperf, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(secs+30)*time.Second)
	defer cancel()
	out, err := w.a.run(ctx, append([]string{"iperf3", "-J", "-c", innerB, "-t", strconv.Itoa(secs)}, args...)...)
	if jsonErr := json.Unmarshal([]byte(out), &r); jsonErr != nil {
		return r, errors.Join(err, fmt.Errorf("iperf3's result: %w", jsonErr))
	}
	if r.Error != "" {
		return r, fmt.Errorf("iperf3: %s", r.Error)
	}
	return r, err
}

// around calls work and returns what CPU time it took: of the tunnel's
// processes at both ends, and of the whole machine. The tunnel's peak memory
// per end during it goes to the sample.
func (w *world) around(test string, s sample, work func() error) (tunnel, machine float64, err error) {
	pids := w.pids()
	forgetPeak(pids)
	tunnelBefore := cpuOf(pids)
	machineBefore, stolenBefore := machineCPU()
	start := time.Now()
	err = work()
	machine, stolen := machineCPU()
	s["stolen"] = max(s["stolen"], (stolen-stolenBefore)/time.Since(start).Seconds())
	if len(pids) > 0 {
		s[test+".peak"] = peakOf(pids) / 2
	}
	return cpuOf(pids) - tunnelBefore, machine - machineBefore, err
}

func (w *world) tcp(ctx context.Context, test string, secs int, s sample, args ...string) error {
	var r iperf
	tunnel, machine, err := w.around(test, s, func() (err error) {
		r, err = w.iperf(ctx, secs, args...)
		return err
	})
	if err != nil {
		return err
	}
	got := r.End.SumReceived
	if got.Bytes == 0 || got.Seconds == 0 {
		return errors.New("iperf3: nothing was received")
	}
	s[test+".gbps"] = got.Bytes * 8 / got.Seconds / 1e9
	s[test+".retransmits"] = r.End.SumSent.Retransmits
	w.cost(test, s, tunnel, machine, got.Bytes)
	return nil
}

// udp sends datagrams with size bytes of payload as fast as iperf3 can.
func (w *world) udp(ctx context.Context, test string, secs, size int, s sample) error {
	var r iperf
	tunnel, machine, err := w.around(test, s, func() (err error) {
		r, err = w.iperf(ctx, secs, "-u", "-b0", "-l", strconv.Itoa(size))
		return err
	})
	if err != nil {
		return err
	}
	delivered := r.End.Sum.Packets - r.End.Sum.Lost
	if delivered <= 0 || r.End.Sum.Seconds == 0 {
		return errors.New("iperf3: nothing was received")
	}
	s[test+".kpps"] = delivered / r.End.Sum.Seconds / 1e3
	s[test+".gbps"] = delivered * float64(size) * 8 / r.End.Sum.Seconds / 1e9
	s[test+".lost"] = 100 * r.End.Sum.Lost / r.End.Sum.Packets
	s[test+".delivered"] = delivered
	w.cost(test, s, tunnel, machine, delivered*float64(size))
	return nil
}

// cost notes CPU seconds per GB (10^9 bytes of payload delivered).
func (w *world) cost(test string, s sample, tunnel, machine, bytes float64) {
	if w.ends[0] != nil {
		s[test+".cpu"] = tunnel / (bytes / 1e9)
	}
	s[test+".machine"] = machine / (bytes / 1e9)
	s[test+".bytes"] = bytes
}

func (w *world) ping(ctx context.Context, test string, count int, interval time.Duration, s sample) error {
	out, err := w.a.run(ctx, "ping", "-q", "-c", strconv.Itoa(count), "-i", fmt.Sprint(interval.Seconds()), innerB)
	avg, most, ok := pingTimes(out)
	if !ok {
		return fmt.Errorf("ping: %w: %s", err, out)
	}
	// Lost pings make ping fail; the figures of the others are still good.
	s[test+".us"], s[test+".max"] = avg, most
	return nil
}

// pingTimes takes average and maximum, in microseconds, from ping's summary.
func pingTimes(out string) (avg, most float64, ok bool) {
	m := pingSummary.FindStringSubmatch(out)
	if m == nil {
		return 0, 0, false
	}
	avg, err1 := strconv.ParseFloat(m[1], 64)
	most, err2 := strconv.ParseFloat(m[2], 64)
	return avg * 1e3, most * 1e3, err1 == nil && err2 == nil
}

var pingSummary = regexp.MustCompile(`= [\d.]+/([\d.]+)/([\d.]+)/[\d.]+ ms`)

// loadPing pings while one TCP stream fills the tunnel in the ping's
// direction.
func loadPing(ctx context.Context, w *world, secs int, s sample) error {
	stream, err := w.start(w.a, nil, "iperf3", "-c", innerB, "-t", strconv.Itoa(secs+1), "--forceflush")
	if err != nil {
		return err
	}
	// The first half second is TCP's, to find its speed.
	if err := stream.await(ctx, "stream", func() bool { return strings.Contains(stream.output(), "connected to") }); err != nil {
		return err
	}
	select {
	case <-time.After(500 * time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	err = w.ping(ctx, "loadping", 80*secs, 10*time.Millisecond, s)
	<-stream.done
	if err == nil && stream.err != nil {
		err = fmt.Errorf("iperf3: %w: %s", stream.err, stream.output())
	}
	return err
}
