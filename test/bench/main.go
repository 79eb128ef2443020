package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	rounds, secs   int
	tunnels, tests []string
	dir            string
	also           []string // NAME=PATH: another build of ours
}

// tunnelNames are the tunnels, in the order of the tables.
var tunnelNames = []string{"none", "stunnel", "stunnel-tcp", reference, "fastd", "openvpn", "openvpn-tcp", "tinc"}

// microTests is the name of the Go benchmarks among the tests.
const microTests = "micro"

func run(ctx context.Context, args []string) error {
	var o options
	var from, perfData, tunnels, names string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 5, "measure each tunnel `N` times; figures are medians")
	flags.IntVar(&o.secs, "secs", 5, "seconds per test")
	flags.StringVar(&tunnels, "tunnels", "", "only these, separated by commas: "+strings.Join(tunnelNames, ", "))
	flags.StringVar(&names, "tests", "", "only these, separated by commas: "+strings.Join(testNames(), ", "))
	flags.StringVar(&o.dir, "o", "docs", "write benchmark.md, .svg and .json into `DIR`")
	flags.Func("also", "measure another stunnel too: `NAME=PATH` of the binary; may be repeated", func(s string) error {
		o.also = append(o.also, s)
		return nil
	})
	flags.StringVar(&from, "from", "", "measure nothing: write table and chart from the `FILE` benchmark.json")
	flags.StringVar(&perfData, "split", "", "measure nothing: print where the time went in `FILE`, of perf record -g")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	case flags.NArg() > 0:
		return fmt.Errorf("no arguments but flags, not %q", flags.Arg(0))
	case o.rounds < 1 || o.secs < 1:
		return errors.New("--rounds and --secs are at least 1")
	}
	o.tunnels, o.tests = list(tunnels), list(names)
	for _, name := range o.tests {
		if !slices.Contains(testNames(), name) {
			return fmt.Errorf("--tests: no test is called %q; there are %s", name, strings.Join(testNames(), ", "))
		}
	}
	switch {
	case perfData != "":
		return printSplit(ctx, os.Stdout, perfData)
	case from != "":
		r, err := readResults(from)
		if err != nil {
			return err
		}
		return r.write(o.dir)
	}
	return measureAll(ctx, o)
}

func testNames() []string {
	var names []string
	for _, t := range tests {
		names = append(names, t.name)
	}
	return append(names, microTests)
}

func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// wants says whether a list that may be empty, for everything, has name.
func wants(list []string, name string) bool { return len(list) == 0 || slices.Contains(list, name) }

// measureAll does all rounds and writes the results, also those of a run that
// was interrupted.
func measureAll(ctx context.Context, o options) error {
	r := &results{Rounds: o.rounds, Seconds: o.secs, Machine: thisMachine(ctx)}
	programs, err := os.MkdirTemp("", "stunnel-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(programs)
	worlds := slices.ContainsFunc(tests, func(t test) bool { return wants(o.tests, t.name) })
	if worlds {
		if os.Getuid() != 0 {
			return errors.New("needs root for network namespaces: sudo make bench")
		}
		if err := missing("ip", "ping", "iperf3", "unshare", "nsenter"); err != nil {
			return err
		}
		tunnels, absent, err := prepare(ctx, programs, o, r.Machine.Commit)
		if err != nil {
			return err
		}
		r.Absent = absent
		for _, text := range absent {
			fmt.Fprintln(os.Stderr, "not measured:", text)
		}
		measureRounds(ctx, o, r, tunnels)
	}
	if wants(o.tests, microTests) && ctx.Err() == nil {
		if r.Micro, err = runMicro(ctx, programs, max(o.rounds, benchstatRounds), o.secs, os.Stderr); err == nil {
			r.Benchstat, err = benchstat(ctx, programs, r.Micro)
		}
		if err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			r.Absent = append(r.Absent, "Go benchmarks, "+err.Error())
		}
	}
	r.Finished = ctx.Err() == nil
	if err := r.write(o.dir); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "written: %s\n", filepath.Join(o.dir, "benchmark.{md,svg,json}"))
	return ctx.Err()
}

// prepare builds what can be built, and looks what is installed of the rest.
func prepare(ctx context.Context, dir string, o options, commit string) (tunnels []*tunnel, absent []string, err error) {
	for _, name := range o.tunnels {
		if !slices.Contains(tunnelNames, name) {
			return nil, nil, fmt.Errorf("--tunnels: no tunnel is called %q", name)
		}
	}
	if wants(o.tunnels, "none") {
		tunnels = append(tunnels, noTunnel())
	}
	if wants(o.tunnels, "stunnel") || wants(o.tunnels, "stunnel-tcp") {
		path, err := build(ctx, dir, commit)
		if err != nil {
			return nil, nil, err
		}
		if wants(o.tunnels, "stunnel") {
			tunnels = append(tunnels, stunnel("stunnel", commit, path))
		}
		if wants(o.tunnels, "stunnel-tcp") {
			tunnels = append(tunnels, stunnelTCP(commit, path))
		}
	}
	for _, also := range o.also {
		name, path, ok := strings.Cut(also, "=")
		if path, err = filepath.Abs(path); err != nil || !ok {
			return nil, nil, fmt.Errorf("--also %q: not NAME=PATH", also)
		}
		tunnels = append(tunnels, stunnel(name, path, path))
	}
	if wants(o.tunnels, reference) {
		path, version, err := buildWireguardGo(ctx, dir)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", reference, err)
		}
		tunnels = append(tunnels, wireguardGo(version, path))
	}
	for _, other := range []struct {
		name, command string
		make          func() *tunnel
	}{{"fastd", "fastd", fastd}, {"openvpn", "openvpn", openVPN}, {"openvpn-tcp", "openvpn", openVPNTCP}, {"tinc", "tincd", tinc}} {
		if !wants(o.tunnels, other.name) {
			continue
		}
		if err := missing(other.command); err != nil {
			if text := err.Error(); !slices.Contains(absent, text) {
				absent = append(absent, text)
			}
			continue
		}
		tunnels = append(tunnels, other.make())
	}
	if err := missing("perf"); err != nil && (wants(o.tests, "calls") || wants(o.tests, "profile")) {
		absent = append(absent, "system calls and profile: "+err.Error())
	}
	return tunnels, absent, nil
}

// measureRounds measures the tunnels in turns, round by round, and then takes
// the profiles.
func measureRounds(ctx context.Context, o options, r *results, tunnels []*tunnel) {
	for _, t := range tunnels {
		r.Tunnels = append(r.Tunnels, &measured{Name: t.name, Version: t.version})
	}
	noted := func(m *measured, err error) {
		if err != nil && ctx.Err() == nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", m.Name, err)
			if text := err.Error(); !slices.Contains(m.Failures, text) {
				m.Failures = append(m.Failures, text)
			}
		}
	}
	for round := range o.rounds {
		for i, t := range tunnels {
			if ctx.Err() != nil {
				return
			}
			s, err := measureOnce(ctx, o, t)
			noted(r.Tunnels[i], err)
			if ctx.Err() == nil {
				r.Tunnels[i].Samples = append(r.Tunnels[i].Samples, s)
				fmt.Fprintf(os.Stderr, "round %d/%d: %s\n", round+1, o.rounds, s.line(t.name))
			}
		}
	}
	for i, t := range tunnels {
		if !wants(o.tests, "profile") || (t.name != "stunnel" && t.name != reference) || missing("perf") != nil || ctx.Err() != nil {
			continue
		}
		fmt.Fprintf(os.Stderr, "profile: %s\n", t.name)
		w, err := newWorld(ctx, t)
		if err == nil {
			r.Tunnels[i].Profile, err = w.profile(ctx, o.secs)
			w.end()
		}
		noted(r.Tunnels[i], err)
	}
}

// measureOnce is one tunnel's turn in one round. A test that fails does not
// keep the others from being measured.
func measureOnce(ctx context.Context, o options, t *tunnel) (sample, error) {
	s := make(sample)
	w, err := newWorld(ctx, t)
	if err != nil {
		return s, err
	}
	defer w.end()
	var errs []error
	for _, test := range tests {
		if test.measure == nil || !wants(o.tests, test.name) || ctx.Err() != nil {
			continue
		}
		if test.name == "calls" && missing("perf") != nil {
			continue // said once, by prepare
		}
		if err := test.measure(ctx, w, o.secs, s); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", test.name, err))
		}
	}
	return s, errors.Join(errs...)
}

// line is the figures in short, for those who wait.
func (s sample) line(name string) string {
	texts := []string{fmt.Sprintf("%-13s", name)}
	for _, m := range metrics {
		if v, ok := s[m.key]; ok && m.inChart {
			texts = append(texts, fmt.Sprintf("%s %s %s", strings.TrimSuffix(m.key, ".gbps"), m.text(v), m.unit))
		}
	}
	return strings.Join(texts, "  ")
}
