package ctl

import (
	"encoding/json"
	"fmt"
	"io"
	"math/bits"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// addJSON gives cmd the flag --json.
func addJSON(cmd *cobra.Command) {
	cmd.Flags().Bool("json", false, "print one JSON document with stable keys")
}

// emit writes v as one indented JSON document if cmd was given --json, else what text writes. A nil slice as v would
// be null: give empty ones. text builds its output in memory, so that half a table is never seen.
func emit(cmd *cobra.Command, v any, text func(w io.Writer)) error {
	if asked, _ := cmd.Flags().GetBool("json"); asked {
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(v)
	}
	var b strings.Builder
	text(&b)
	_, err := io.WriteString(cmd.OutOrStdout(), b.String())
	return err
}

// table is text in columns, two blanks apart. A column of figures is aligned to the right.
type table struct {
	heads   []string // "" in all: no line of heads; a leading '>' aligns the column to the right
	rows    [][]string
	noHeads bool
}

// newTable makes a table with these heads; a head that begins with '>' aligns its column to the right.
func newTable(heads ...string) *table { return &table{heads: heads} }

// newPairs makes a table of two columns without heads: key, value.
func newPairs() *table { return &table{heads: []string{"", ""}, noHeads: true} }

// add appends a row; each cell is printed by fmt.Sprint. An empty cell shows as '-', so that columns can be counted.
func (t *table) add(cells ...any) {
	row := make([]string, len(t.heads))
	for i := range row {
		if i < len(cells) {
			row[i] = fmt.Sprint(cells[i])
		}
		if row[i] == "" {
			row[i] = "-"
		}
	}
	t.rows = append(t.rows, row)
}

// write writes the table to w.
func (t *table) write(w io.Writer) {
	all := t.rows
	right := make([]bool, len(t.heads))
	heads := make([]string, len(t.heads))
	for i, h := range t.heads {
		heads[i], right[i] = strings.CutPrefix(h, ">")
	}
	if !t.noHeads {
		all = append([][]string{heads}, t.rows...)
	}
	width := make([]int, len(heads))
	for _, r := range all {
		for i, c := range r {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	for _, r := range all {
		var line strings.Builder
		for i, c := range r {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			if right[i] {
				c = pad + c
			} else {
				c += pad
			}
			if i > 0 {
				line.WriteString("  ")
			}
			line.WriteString(c)
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// sizeText writes n bytes for people: "1.5 MiB", at most one digit after the point.
func sizeText(n uint64) string {
	if n < 1<<10 {
		return strconv.FormatUint(n, 10) + " B"
	}
	u := (bits.Len64(n) - 1) / 10
	f := strconv.FormatFloat(float64(n)/float64(uint64(1)<<(10*u)), 'f', 1, 64)
	return strings.TrimSuffix(f, ".0") + " " + "KMGTPE"[u-1:u] + "iB"
}

// hexText writes a gaddr or tag the way the verbs read it back.
func hexText(v uint64) string { return "0x" + strconv.FormatUint(v, 16) }

// shareText writes part of whole in percent.
func shareText(part, whole uint64) string {
	if whole == 0 {
		return "-"
	}
	return strconv.FormatFloat(100*float64(part)/float64(whole), 'f', 1, 64) + "%"
}

// parseSize reads a size in bytes: a number, decimal or 0x hexadecimal, then perhaps a binary unit K, M, G or T, each
// also as KiB and KB, all meaning 1024. Errors: ErrUsage.
func parseSize(s string) (uint64, error) {
	t := strings.TrimSpace(s)
	shift := 0
	if !strings.HasPrefix(t, "0x") && !strings.HasPrefix(t, "0X") {
		u := strings.ToUpper(t)
		u = strings.TrimSuffix(strings.TrimSuffix(u, "B"), "I")
		if n := len(u); n > 0 {
			if k := strings.IndexByte("KMGT", u[n-1]); k >= 0 {
				shift, u = 10*(k+1), u[:n-1]
			}
		}
		t = strings.TrimSpace(u)
	}
	v, err := strconv.ParseUint(t, 0, 64)
	if err != nil || v > ^uint64(0)>>shift {
		return 0, usagef("%q is no size: write bytes, or a number with K, M, G or T (such as 64M or 1GiB)", s)
	}
	return v << shift, nil
}

// parseNumber reads a gaddr or a tag: decimal, or hexadecimal with 0x. what names it in the error. Errors: ErrUsage.
func parseNumber(what, s string) (uint64, error) {
	v, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		return 0, usagef("%q is no %s: write a number, decimal or with 0x", s, what)
	}
	return v, nil
}

// sizeFlag is a flag whose value is a size as parseSize reads it.
type sizeFlag uint64

func (f *sizeFlag) String() string {
	if *f == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(*f), 10)
}
func (f *sizeFlag) Type() string { return "size" }
func (f *sizeFlag) Set(s string) error {
	v, err := parseSize(s)
	*f = sizeFlag(v)
	return err
}
