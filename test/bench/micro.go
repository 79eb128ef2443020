package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// micro is one Go benchmark.
type micro struct {
	Of     string               // whose code: stunnel, or wireguard-go
	Name   string               // without "Benchmark" and the number of CPUs
	Values map[string][]float64 // by unit, one per round
}

// suites are the Go benchmarks that are run: of the packages of the fast path,
// and of wireguard-go's table of AllowedIPs over the same prefixes.
var suites = []struct{ of, module, pkg, bench string }{
	{"stunnel", ".", "./crypto", "Seal|Open"},
	{"stunnel", ".", "./crypto/chachapoly", "Train/op=/bytes=(96|1420)$/packets=(1|4|16|46)$"},
	{"stunnel", ".", "./device", "."},
	{"stunnel", ".", "./transport", "Outbound$|Inbound$|ReplayWindow|AllowedIPs"},
	{reference, "test/interop", ".", "AllowedIPs"},
}

// runMicro runs the Go benchmarks in turns, rounds times.
func runMicro(ctx context.Context, dir string, rounds, secs int, progress io.Writer) ([]micro, error) {
	var results []micro
	binary := func(i int) string { return filepath.Join(dir, fmt.Sprintf("suite%d.test", i)) }
	for i, s := range suites {
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary(i), s.pkg)
		cmd.Dir = s.module
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go test -c %s: %w\n%s", s.pkg, err, out)
		}
	}
	for round := range rounds {
		for i, s := range suites {
			fmt.Fprintf(progress, "round %d/%d: Go benchmarks of %s, %s\n", round+1, rounds, s.of, s.pkg)
			cmd := exec.CommandContext(ctx, binary(i), "-test.run=^$", "-test.bench="+s.bench, "-test.benchmem",
				fmt.Sprintf("-test.benchtime=%dms", 200*secs))
			cmd.Dir = filepath.Join(s.module, s.pkg)
			var out, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &stderr
			if err := cmd.Run(); err != nil {
				return results, fmt.Errorf("benchmarks of %s: %w\n%s%s", s.pkg, err, &out, &stderr)
			}
			results = addMicro(results, s.of, out.String())
		}
	}
	return results, nil
}

// addMicro adds what a Go test binary has printed.
func addMicro(results []micro, of, text string) []micro {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(f[0], "Benchmark")
		if at := strings.LastIndexByte(name, '-'); at > 0 {
			if _, err := strconv.Atoi(name[at+1:]); err == nil {
				name = name[:at]
			}
		}
		at := slices.IndexFunc(results, func(m micro) bool { return m.Of == of && m.Name == name })
		if at < 0 {
			at = len(results)
			results = append(results, micro{Of: of, Name: name, Values: make(map[string][]float64)})
		}
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				results[at].Values[f[i+1]] = append(results[at].Values[f[i+1]], v)
			}
		}
	}
	return results
}

// of is the spread of a benchmark in a unit.
func (m *micro) of(unit string) (spread, bool) {
	if len(m.Values[unit]) == 0 {
		return spread{}, false
	}
	return spreadOf(m.Values[unit]), true
}
