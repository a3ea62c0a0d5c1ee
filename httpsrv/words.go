package httpsrv

import (
	"fmt"
	"strings"
)

// words are the names of an enumeration's values, from 0 on.
type words []string

// of returns the name of value i; 'unknown' for anything else.
func (w words) of(i int) string {
	if i >= len(w) {
		return "unknown"
	}
	return w[i]
}

// index returns the value called s. ErrParams, with those there are, for anything else.
func (w words) index(what, s string) (int, error) {
	for i, n := range w {
		if n == s {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%w: %s %q: one of %s", ErrParams, what, s, strings.Join(w, ", "))
}
