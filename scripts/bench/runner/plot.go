package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// The plot: deliveries per second over the number of clients, both axes logarithmic, 128 B with 32 messages ahead.
const (
	plotW, plotH                   = 760, 440
	plotL, plotR, plotT, plotB     = 80, 650, 50, 380
	plotSize, plotWindow, plotNote = "128", "32", "128 B a message, at most 32 ahead of the slowest client"
)

var plotColours = map[string]string{
	"tilewire": "#c0392b", "limit": "#2c3e50", "goraw": "#2980b9", "centrifuge": "#8e44ad", "each": "#7f8c8d",
	"gorilla": "#16a085", "coder": "#d35400", "gws": "#27ae60", "gobwas": "#b7950b",
}

type point struct{ x, y float64 }

// curves returns each server's points in order of clients.
func (r *run) curves() (names []string, of map[string][]point) {
	of = map[string][]point{}
	for _, o := range r.Rows {
		_, shape, _ := strings.Cut(o.Case, "/")
		var clients, size, window int
		if n, _ := fmt.Sscanf(shape, "%dx%d/w%d", &clients, &size, &window); n != 3 || len(o.Values) == 0 || strings.Contains(shape, "+") ||
			fmt.Sprint(size) != plotSize || fmt.Sprint(window) != plotWindow {
			continue
		}
		if of[o.Server] == nil {
			names = append(names, o.Server)
		}
		of[o.Server] = append(of[o.Server], point{float64(clients), o.Value})
	}
	for _, ps := range of {
		slices.SortFunc(ps, func(a, b point) int { return int(a.x - b.x) })
	}
	return names, of
}

// plot draws the curves as SVG.
func (r *run) plot() string {
	names, of := r.curves()
	x0, x1, y0, y1 := math.Inf(1), 0.0, math.Inf(1), 0.0
	for _, ps := range of {
		for _, p := range ps {
			x0, x1, y0, y1 = min(x0, p.x), max(x1, p.x), min(y0, p.y), max(y1, p.y)
		}
	}
	if x1 <= x0 || y1 <= 0 {
		x0, x1, y0, y1 = 1, 10, 1, 10
	}
	decade := func(v float64, up bool) float64 {
		if up {
			return math.Pow(10, math.Ceil(math.Log10(v)-1e-9))
		}
		return math.Pow(10, math.Floor(math.Log10(v)+1e-9))
	}
	x0, x1, y0, y1 = decade(x0, false), decade(x1, true), decade(y0, false), decade(y1, true)
	px := func(v float64) float64 { return plotL + (plotR-plotL)*math.Log(v/x0)/math.Log(x1/x0) }
	py := func(v float64) float64 { return plotB - (plotB-plotT)*math.Log(v/y0)/math.Log(y1/y0) }

	var b strings.Builder
	w := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	w(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`, plotW, plotH)
	w(`<rect width="%d" height="%d" fill="#fff"/>`, plotW, plotH)
	w(`<text x="%d" y="22" font-size="15">Deliveries per second over the number of clients</text>`, plotL)
	w(`<text x="%d" y="40" fill="#666">%s; %s, %s</text>`, plotL, plotNote, html.EscapeString(fmt.Sprint(r.Machine["cpu"])), r.Began[:min(len(r.Began), 10)])
	for v := x0; v <= x1*1.001; v *= 10 {
		w(`<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#ddd"/>`, px(v), plotT, px(v), plotB)
		w(`<text x="%.1f" y="%d" text-anchor="middle">%s</text>`, px(v), plotB+18, axis(v))
	}
	for v := y0; v <= y1*1.001; v *= 10 {
		w(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/>`, plotL, py(v), plotR, py(v))
		w(`<text x="%d" y="%.1f" text-anchor="end">%s</text>`, plotL-8, py(v)+4, axis(v))
	}
	w(`<text x="%d" y="%d" text-anchor="middle">clients</text>`, (plotL+plotR)/2, plotB+40)

	// Labels stand beside the last points, moved apart.
	type label struct {
		name string
		y    float64
	}
	var labels []label
	for _, n := range names {
		ps := of[n]
		colour, width := plotColours[n], 1.5
		if colour == "" {
			colour = "#555"
		}
		if n == "tilewire" {
			width = 3
		}
		var path strings.Builder
		for _, p := range ps {
			fmt.Fprintf(&path, "%.1f,%.1f ", px(p.x), py(p.y))
		}
		w(`<polyline points="%s" fill="none" stroke="%s" stroke-width="%.1f"/>`, strings.TrimSpace(path.String()), colour, width)
		for _, p := range ps {
			w(`<circle cx="%.1f" cy="%.1f" r="%.1f" fill="%s"/>`, px(p.x), py(p.y), width+1, colour)
		}
		labels = append(labels, label{n, py(ps[len(ps)-1].y)})
	}
	slices.SortFunc(labels, func(a, b label) int { return int(100 * (a.y - b.y)) })
	for i := range labels {
		if i > 0 {
			labels[i].y = max(labels[i].y, labels[i-1].y+14)
		}
		colour := plotColours[labels[i].name]
		if colour == "" {
			colour = "#555"
		}
		w(`<text x="%d" y="%.1f" fill="%s">%s</text>`, plotR+10, labels[i].y+4, colour, html.EscapeString(labels[i].name))
	}
	w(`</svg>`)
	return b.String()
}

// axis writes a power of ten.
func axis(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.0fM", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%.0fk", v/1e3)
	}
	return fmt.Sprintf("%.0f", v)
}
