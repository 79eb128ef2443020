package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// benchstatTool is fetched from the Go proxy; it is no dependency of the module.
const benchstatTool = "golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da"

// benchstatRounds is how many rounds benchstat wants before it says how sure a
// median is.
const benchstatRounds = 6

// benchstat is what benchstat says of Go benchmarks, wireguard-go's beside ours.
// It leaves its input in dir.
func benchstat(ctx context.Context, dir string, all []micro) (string, error) {
	args := []string{"run", benchstatTool, "-filter", ".unit:(sec/op OR B/s OR B/prefix OR allocs/op)"}
	for _, of := range []string{reference, "stunnel"} {
		text := benchmarkLines(all, of)
		if text == "" {
			continue
		}
		file := filepath.Join(dir, of+".bench")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return "", err
		}
		args = append(args, of+"="+file)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("benchstat: %w\n%s", err, &stderr)
	}
	return out.String(), nil
}

// benchmarkLines are the benchmarks of one program as go test prints them, round
// by round.
func benchmarkLines(all []micro, of string) string {
	var b strings.Builder
	for i := range all {
		m := &all[i]
		for round := 0; m.Of == of && round < len(m.Values["ns/op"]); round++ {
			fmt.Fprintf(&b, "Benchmark%s 1", m.Name)
			for _, unit := range []string{"ns/op", "MB/s", "ns/packet", "B/prefix", "B/op", "allocs/op"} {
				if v := m.Values[unit]; round < len(v) {
					fmt.Fprintf(&b, " %g %s", v[round], unit)
				}
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}
