package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"stunnel/transport"
)

// block is a heading with lines below it whose values stand in one column.
type block struct{ w io.Writer }

func (b block) head(kind, name string) { fmt.Fprintf(b.w, "%s: %s\n", kind, printable(name)) }

func (b block) line(label, value string) {
	fmt.Fprintf(b.w, "  %-18s%s\n", label+":", printable(value))
}

// offloads prints those in use, and then the others by the reason why they are not.
func (b block) offloads(all []transport.Offload) {
	var on, reasons []string
	off := make(map[string][]string)
	for _, o := range all {
		if o.Off == "" {
			on = append(on, o.Name)
			continue
		}
		if off[o.Off] == nil {
			reasons = append(reasons, o.Off)
		}
		off[o.Off] = append(off[o.Off], o.Name)
	}
	if len(on) > 0 {
		b.line("offloads", strings.Join(on, ", "))
	}
	for _, why := range reasons {
		b.line("no offload", strings.Join(off[why], ", ")+": "+why)
	}
}

func secret(key string, o showOptions) string {
	if o.keys {
		return key
	}
	return "(hidden)"
}

func upOrDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

func texts[T fmt.Stringer](of []T) []string {
	words := make([]string, len(of))
	for i, v := range of {
		words[i] = v.String()
	}
	return words
}

// ago says how long since, in the two largest units.
func ago(d time.Duration) string {
	if d < 0 {
		return "in the future (was the clock set back?)"
	}
	units := []struct {
		size time.Duration
		name string
	}{
		{365 * 24 * time.Hour, "year"}, {24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"},
	}
	for i, u := range units {
		if d < u.size {
			continue
		}
		words := count(int64(d/u.size), u.name)
		if i+1 < len(units) {
			if rest := int64(d % u.size / units[i+1].size); rest > 0 {
				words += ", " + count(rest, units[i+1].name)
			}
		}
		return words + " ago"
	}
	return "now"
}

func count[N int64 | uint64](n N, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}

// iec prints a number of bytes with the unit that fits: B, KiB, MiB, ...
func iec(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1024 && unit < 5 {
		value /= 1024
		unit++
	}
	return fmt.Sprintf("%.2f %ciB", value, "KMGTPE"[unit])
}
