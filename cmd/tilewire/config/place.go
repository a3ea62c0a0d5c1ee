package config

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// source is a file that was read.
type source struct {
	path string
	text []byte
}

// mark shows a place of the file: what is wrong, the line, and a caret under the n bytes at column col (from 1).
func (s source) mark(row, col, n int, what string) string {
	lines := bytes.Split(s.text, []byte("\n"))
	if row < 1 || row > len(lines) {
		return fmt.Sprintf("%s: %s", s.path, what)
	}
	line := strings.TrimRight(string(lines[row-1]), "\r")
	pad := strings.Map(func(r rune) rune { // as wide as what stands before it
		if r == '\t' {
			return r
		}
		return ' '
	}, line[:min(max(col-1, 0), len(line))])
	return fmt.Sprintf("%s:%d:%d: %s\n  %s\n  %s%s", s.path, row, col, what, line, pad, strings.Repeat("^", max(n, 1)))
}

// place returns the mark of key, and what is wrong with it, or nothing if the file does not have the key.
func (s source) place(key, what string) string {
	var p unstable.Parser
	p.Reset(s.text)
	table, count := "", map[string]int{}
	for p.NextExpression() {
		e := p.Expression()
		var parts []string
		for it := e.Key(); it.Next(); {
			parts = append(parts, string(it.Node().Data))
		}
		name := strings.Join(parts, ".")
		switch e.Kind {
		case unstable.Table:
			table = name + "."
		case unstable.ArrayTable:
			table = fmt.Sprintf("%s[%d].", name, count[name])
			count[name]++
		case unstable.KeyValue:
			if table+name != key {
				continue
			}
			it := e.Key()
			it.Next()
			at := p.Shape(it.Node().Raw).Start
			return s.mark(at.Line, at.Column, len(name), what)
		}
	}
	return ""
}
