package main

import (
	"fmt"
	"html"
	"strings"
)

// The chart is small multiples: a panel per figure, a bar per tunnel.
const (
	panelWidth  = 400
	panelGap    = 24
	barHeight   = 16
	barGap      = 5
	nameWidth   = 92
	valueWidth  = 112
	titleHeight = 26
	margin      = 16
)

// svg is benchmark.svg.
func (r *results) svg() string {
	var panels []string
	height := titleHeight + len(r.Tunnels)*(barHeight+barGap)
	for _, m := range metrics {
		if p := r.panel(m); m.inChart && p != "" {
			panels = append(panels, p)
		}
	}
	rows := (len(panels) + 1) / 2
	width := 2*margin + 2*panelWidth + panelGap
	total := 2*margin + rows*(height+panelGap) + 18
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="12" fill="#222">`+"\n",
		width, total, width, total)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, total)
	for i, p := range panels {
		fmt.Fprintf(&b, `<g transform="translate(%d %d)">`+"\n%s</g>\n",
			margin+i%2*(panelWidth+panelGap), margin+i/2*(height+panelGap), p)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" fill="#666">%s</text>`+"\n</svg>\n", margin, total-margin,
		html.EscapeString(fmt.Sprintf("median of %d, lines from least to most; %d CPUs, Linux %s, %s, commit %s",
			r.Rounds, r.Machine.CPUs, r.Machine.Kernel, r.Machine.Date, r.Machine.Commit)))
	return b.String()
}

// panel is the bars of one figure, or nothing if nobody has it.
func (r *results) panel(m metric) string {
	var most float64
	for _, t := range r.Tunnels {
		if s, ok := t.of(m.key); ok {
			most = max(most, s.most)
		}
	}
	if most == 0 {
		return ""
	}
	var b strings.Builder
	better := "more is better"
	if m.lower {
		better = "less is better"
	}
	fmt.Fprintf(&b, `<text y="12"><tspan font-weight="bold">%s</tspan> <tspan fill="#666">%s, %s</tspan></text>`+"\n",
		html.EscapeString(m.title), html.EscapeString(m.unit), better)
	base := spread{}
	if ref := r.named(reference); ref != nil {
		base, _ = ref.of(m.key)
	}
	const room = panelWidth - nameWidth - valueWidth
	for i, t := range r.Tunnels {
		y := titleHeight + i*(barHeight+barGap)
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, nameWidth-6, y+12, html.EscapeString(t.Name))
		s, ok := t.of(m.key)
		if !ok {
			fmt.Fprintf(&b, `<text x="%d" y="%d" fill="#666">-</text>`+"\n", nameWidth+4, y+12)
			continue
		}
		at := func(v float64) float64 { return nameWidth + v/most*room }
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`, nameWidth, y, max(1, at(s.median)-nameWidth), barHeight, colour(t.Name))
		fmt.Fprintf(&b, `<path d="M%.1f %d H%.1f" stroke="#222" stroke-width="1.5"/>`, at(s.least), y+barHeight/2, at(s.most))
		text := m.text(s.median)
		if base.median > 0 && t.Name != reference {
			text += fmt.Sprintf("  (%.2f ×)", s.median/base.median)
		}
		fmt.Fprintf(&b, `<text x="%.1f" y="%d">%s</text>`+"\n", at(s.most)+5, y+12, text)
	}
	return b.String()
}

func colour(name string) string {
	switch name {
	case "stunnel":
		return "#1a7f5a"
	case reference:
		return "#8a1f2d"
	case "no tunnel":
		return "#c4c4c4"
	}
	return "#7a8aa8"
}
