package main

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// results is all that a run has measured; benchmark.json.
type results struct {
	Machine   machine
	Rounds    int
	Seconds   int
	Tunnels   []*measured
	Absent    []string // what was not measured, and why
	Micro     []micro  `json:",omitempty"`
	Benchstat string   `json:",omitempty"` // its words about Micro
	Finished  bool     // all rounds are in
}

// measured is one tunnel's part.
type measured struct {
	Name, Version string
	Samples       []sample  // one per round
	Failures      []string  `json:",omitempty"`
	Profile       *profiled `json:",omitempty"`
}

// of is the spread of one figure over the rounds that have it.
func (m *measured) of(key string) (spread, bool) {
	var values []float64
	for _, s := range m.Samples {
		if v, ok := s[key]; ok {
			values = append(values, v)
		}
	}
	if len(values) == 0 {
		return spread{}, false
	}
	return spreadOf(values), true
}

// named is the tunnel of that name; nil if it was not measured.
func (r *results) named(name string) *measured {
	for _, m := range r.Tunnels {
		if m.Name == name {
			return m
		}
	}
	return nil
}

// stolen is the largest share of the machine, in CPUs, that the hypervisor
// took away during a test.
func (r *results) stolen() (worst float64) {
	for _, m := range r.Tunnels {
		for _, s := range m.Samples {
			worst = max(worst, s["stolen"])
		}
	}
	return worst
}

// write writes the figures, the tables and the chart into dir.
func (r *results) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	figures, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"benchmark.json": append(figures, '\n'),
		"benchmark.md":   []byte(r.markdown()),
		"benchmark.svg":  []byte(r.svg()),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// readResults reads a benchmark.json.
func readResults(path string) (*results, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(results)
	return r, json.Unmarshal(b, r)
}
