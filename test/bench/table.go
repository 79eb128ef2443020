package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// markdown is benchmark.md.
func (r *results) markdown() string {
	var b strings.Builder
	b.WriteString("# Tunnels side by side\n\n" +
		"Written by `make bench`; do not edit. What the figures mean and why they are so: [performance.md](performance.md).\n\n")
	if !r.Finished {
		b.WriteString("**Not a whole run**: it was interrupted.\n\n")
	}
	r.writeMachine(&b)
	b.WriteString("![The figures as bars](benchmark.svg)\n\n")
	r.writeFigures(&b)
	r.writeRatios(&b)
	r.writeCalls(&b)
	r.writeProfiles(&b)
	r.writeMicro(&b)
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func (r *results) writeMachine(b *strings.Builder) {
	m := r.Machine
	table(b, []string{"", ""}, [][]string{
		{"date, commit", m.Date + ", " + m.Commit},
		{"machine", fmt.Sprintf("%d CPUs (%s), %.0f GB; both hosts of each tunnel are on it", m.CPUs, m.Processor, m.MemoryGB)},
		{"system", fmt.Sprintf("Linux %s, %s", m.Kernel, m.System)},
		{"tools", fmt.Sprintf("%s, iperf3 %s", m.Go, m.Iperf3)},
		{"rounds", fmt.Sprintf("%d, in turns, %d s per test", r.Rounds, r.Seconds)},
		{"disturbance", fmt.Sprintf("load %s before; at most %.2f CPUs taken away by the hypervisor during a test", m.LoadBefore, r.stolen())},
	})
	var rows [][]string
	for _, t := range r.Tunnels {
		rows = append(rows, []string{t.Name, t.Version})
	}
	table(b, []string{"measured", "version"}, rows)
	for _, text := range r.Absent {
		fmt.Fprintf(b, "Not measured: %s.\n\n", oneLine(text))
	}
	for _, t := range r.Tunnels {
		for _, f := range t.Failures {
			fmt.Fprintf(b, "Failed: %s: %s.\n\n", t.Name, oneLine(f))
		}
	}
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// table writes a Markdown table and an empty line.
func table(b *strings.Builder, head []string, rows [][]string) {
	line := func(cells []string) { fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | ")) }
	line(head)
	rule := make([]string, len(head))
	for i := range rule {
		if rule[i] = "---:"; i == 0 || len(head) == 2 {
			rule[i] = "---"
		}
	}
	line(rule)
	for _, row := range rows {
		line(row)
	}
	b.WriteString("\n")
}

func (r *results) head(first string) []string {
	head := []string{first}
	for _, t := range r.Tunnels {
		head = append(head, t.Name)
	}
	return head
}

func (r *results) writeFigures(b *strings.Builder) {
	var rows [][]string
	for _, m := range metrics {
		row := []string{m.label()}
		some := false
		for _, t := range r.Tunnels {
			s, ok := t.of(m.key)
			if some = some || ok; !ok {
				row = append(row, "-")
				continue
			}
			row = append(row, fmt.Sprintf("**%s** (%s-%s)", m.text(s.median), m.text(s.least), m.text(s.most)))
		}
		if some {
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		return
	}
	b.WriteString("## Figures\n\nMedian of the rounds, in bold, and the least and the most. GB and MB are 10^9 and 10^6 bytes; per GB means per GB of\n" +
		"payload delivered. CPU of both ends is user and system time of the tunnel's processes, CPU of the whole machine also that of\n" +
		"iperf3 and of the two network stacks.\n\n")
	table(b, r.head(""), rows)
}

func (m metric) label() string {
	if m.unit == "" {
		return m.title
	}
	return m.title + ", " + m.unit
}

func (m metric) text(v float64) string { return decimal(v, m.digits) }

// decimal is v with so many digits behind the point, and commas before it.
func decimal(v float64, digits int) string {
	text := strconv.FormatFloat(v, 'f', digits, 64)
	whole, _, _ := strings.Cut(text, ".")
	for at := len(whole) - 3; at > 0 && v >= 1000; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

func (r *results) writeRatios(b *strings.Builder) {
	ref := r.named(reference)
	if ref == nil || len(r.Tunnels) < 2 {
		return
	}
	var rows [][]string
	for _, m := range metrics {
		base, ok := ref.of(m.key)
		if !ok || base.median == 0 {
			continue
		}
		row := []string{m.title}
		for _, t := range r.Tunnels {
			if s, ok := t.of(m.key); ok {
				row = append(row, strconv.FormatFloat(s.median/base.median, 'f', 2, 64))
			} else {
				row = append(row, "-")
			}
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "## Ratios to %s\n\nMedian over median of the same run. Above 1 is better for speeds, below 1 for everything else.\n\n", reference)
	table(b, r.head(""), rows)
}

// writeCalls says which system calls were made.
func (r *results) writeCalls(b *strings.Builder) {
	var rows [][]string
	for _, load := range []struct{ key, title string }{
		{"tcp1", "one TCP stream, per GB"}, {"udp64", "UDP of 64 bytes, per 1,000 delivered"}, {"ping", "idle ping, per ping"},
	} {
		for _, end := range []string{"a", "b"} {
			for _, t := range r.Tunnels {
				if row := t.calls("calls." + load.key + "." + end + "."); row != nil {
					rows = append(rows, append([]string{load.title, map[string]string{"a": "sends", "b": "receives"}[end], t.Name}, row...))
				}
			}
		}
	}
	if len(rows) == 0 {
		return
	}
	b.WriteString("## System calls\n\nCounted at each end by the kernel's trace points (`perf stat`) in runs of their own, medians. A sleep is a thread that gave\n" +
		"up its CPU: each is followed by a wake-up. The ping's *sends* is the end that pings.\n\n")
	table(b, []string{"traffic", "end", "tunnel", "all calls", "sleeps", "most frequent"}, rows)
}

// calls is all calls, sleeps and the most frequent calls under a prefix.
func (m *measured) calls(prefix string) []string {
	all, ok := m.of(prefix + "all")
	if !ok {
		return nil
	}
	keys := make(map[string]bool)
	for _, s := range m.Samples {
		for key := range s {
			if name, ok := strings.CutPrefix(key, prefix); ok && name != "all" && name != "sleeps" {
				keys[name] = true
			}
		}
	}
	median := func(name string) float64 { s, _ := m.of(prefix + name); return s.median }
	names := slices.SortedFunc(maps.Keys(keys), func(x, y string) int {
		return cmp.Or(-cmp.Compare(median(x), median(y)), cmp.Compare(x, y))
	})
	var texts []string
	for _, name := range names[:min(5, len(names))] {
		texts = append(texts, name+" "+short(median(name)))
	}
	return []string{short(all.median), short(median("sleeps")), strings.Join(texts, ", ")}
}

// short is a number with as many digits as are worth reading.
func short(v float64) string {
	if v < 100 {
		return decimal(v, 1)
	}
	return decimal(v, 0)
}

func (r *results) writeProfiles(b *strings.Builder) {
	var head []string
	var columns []func(part string) string
	for _, t := range r.Tunnels {
		if t.Profile == nil {
			continue
		}
		for i, s := range []split{t.Profile.Sender, t.Profile.Receiver} {
			head = append(head, t.Name+[]string{", sends", ", receives"}[i])
			columns = append(columns, func(part string) string {
				share := s[part] / s.total()
				return fmt.Sprintf("%.1f %% = %.2f", 100*share, share*t.Profile.SecondsPerGB[i])
			})
		}
	}
	if len(head) == 0 {
		return
	}
	var rows [][]string
	for _, part := range append(parts[:len(parts):len(parts)], kernelCopies, kernelSums) {
		row := []string{part}
		for _, c := range columns {
			row = append(row, c(part))
		}
		rows = append(rows, row)
	}
	b.WriteString("## Where the time goes\n\nOne TCP stream, sampled by `perf record` in a run of its own: share of each end's CPU time, and what it is in CPU seconds per\n" +
		"GB. The veth joins the hosts within one kernel, so what a call sets off at the other host is in that call: *UDP send* has the\n" +
		"outer packet's whole way, *TUN write* the inner one's up to iperf3's socket. The rows in brackets are contained in those above.\n\n")
	table(b, append([]string{""}, head...), rows)
}

func (r *results) writeMicro(b *strings.Builder) {
	var tables [][]string
	for i := range r.Micro {
		m := &r.Micro[i]
		ns, ok := m.of("ns/op")
		if !ok {
			continue
		}
		value := func(unit string) string {
			if s, ok := m.of(unit); ok {
				return short(s.median)
			}
			return "-"
		}
		time := fmt.Sprintf("**%s** (%s-%s)", short(ns.median), short(ns.least), short(ns.most))
		if m.Of != "stunnel" || !strings.HasPrefix(m.Name, "AllowedIPs/") {
			continue
		}
		row := []string{strings.TrimPrefix(m.Name, "AllowedIPs/"), time, "-", "-", value("B/prefix"), "-", value("allocs/op")}
		for j := range r.Micro {
			if o := &r.Micro[j]; o.Name == m.Name && o.Of == reference {
				theirs, _ := o.of("ns/op")
				size, _ := o.of("B/prefix")
				row[2] = fmt.Sprintf("**%s** (%s-%s)", short(theirs.median), short(theirs.least), short(theirs.most))
				row[3] = fmt.Sprintf("%.2f", ns.median/theirs.median)
				row[5] = short(size.median)
			}
		}
		tables = append(tables, row)
	}
	if len(tables) > 0 {
		fmt.Fprintf(b, "## AllowedIPs\n\nOne lookup of a random address out of all prefixes, ns: median (least-most); and heap per prefix, with the record of whose it is.\n\n")
		table(b, []string{"prefixes", "stunnel", reference, "ratio", "stunnel, bytes per prefix", reference + ", bytes per prefix", "allocations"}, tables)
	}
	if r.Benchstat != "" {
		fmt.Fprintf(b, "## Go benchmarks\n\nAs benchstat puts them: the median of %d rounds or more, and how far it is certain to 95 %%.\n\n```\n%s\n```\n",
			benchstatRounds, strings.TrimRight(r.Benchstat, "\n"))
	}
}
