package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tilewire/tilewire/shmem"
)

// answer writes v as one indented JSON document, or as text for people to whom asks for it: ?format=text, or an Accept
// that names text/plain and not JSON.
func answer(w http.ResponseWriter, r *http.Request, status int, v any, text func(w io.Writer)) {
	var b bytes.Buffer
	kind := "application/json"
	if wantsText(r) {
		kind = "text/plain; charset=utf-8"
		text(&b)
	} else {
		e := json.NewEncoder(&b)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil { // values of ours, all of which can be
			fail(w, http.StatusInternalServerError, err.Error())
			return
		}
	}
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

func wantsText(r *http.Request) bool {
	if f := r.URL.Query().Get("format"); f != "" {
		return f == "text"
	}
	a := r.Header.Get("Accept")
	return strings.Contains(a, "text/plain") && !strings.Contains(a, "json")
}

// fail answers with an error in words.
func fail(w http.ResponseWriter, status int, text string) {
	failWith(w, status, map[string]any{"error": text})
}

func failWith(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// table writes rows of tab-separated cells in columns.
func table(w io.Writer, f func(row func(cells ...any))) {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	f(func(cells ...any) {
		for i, c := range cells {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			if s := fmt.Sprint(c); s != "" {
				fmt.Fprint(t, s)
			} else {
				fmt.Fprint(t, "-")
			}
		}
		fmt.Fprintln(t)
	})
	_ = t.Flush()
}

// seconds gives ns as seconds to the millisecond, negative ones as 0.
func seconds(ns int64) float64 { return math.Round(float64(max(ns, 0))/1e6) / 1e3 }

// sinceMono is the age of a moment of CLOCK_MONOTONIC in seconds, 0 for the moment 0.
func sinceMono(at int64) float64 {
	if at == 0 {
		return 0
	}
	return seconds(shmem.Monotonic() - at)
}

// short writes an age in seconds for people.
func short(s float64) string {
	return time.Duration(s * 1e9).Round(time.Millisecond).String()
}
