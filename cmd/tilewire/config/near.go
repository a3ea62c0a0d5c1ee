package config

import (
	"reflect"
	"strings"
)

// near names the key that was perhaps meant, as " (did you mean ...?)", or nothing.
func (c *Config) near(key string) string {
	best, at := "", min(4, 1+len(key)/3)
	last := key[strings.LastIndexByte(key, '.')+1:]
	_ = c.each(func(k string, _ reflect.StructField, _ reflect.Value) error {
		if d := distance(key, strings.ReplaceAll(k, "[0]", "")); d < at {
			best, at = k, d
		}
		if k[strings.LastIndexByte(k, '.')+1:] == last && at > 1 || strings.HasPrefix(k, key+"_") && at > 2 { // but for the table; but for the unit
			best, at = k, 1
		}
		return nil
	})
	if best == "" {
		return ""
	}
	return " (did you mean " + strings.ReplaceAll(best, "[0]", "") + "?)"
}

// distance is how many letters must be put in, left out or changed to make a of b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j]+1, diag+1)
		}
	}
	return row[len(b)]
}
