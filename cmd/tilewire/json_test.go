package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// Verbs that answer a question do so in JSON as well, also when the answer is no.
func TestVerbsJSON(t *testing.T) {
	t.Parallel()
	ask := func(exit int, args ...string) (v map[string]any, said string) {
		t.Helper()
		out, said := verb(t, exit, append(args, "--json")...)
		if err := json.Unmarshal([]byte(out), &v); err != nil || strings.Count(out, "\n") != 1 {
			t.Errorf("%q: %v: %q", args, err, out)
		}
		return v, said
	}
	v, _ := ask(0, "version")
	text, _ := verb(t, 0, "version")
	for _, key := range []string{"version", "revision", "layout", "go", "os", "arch"} {
		if s, ok := v[key].(string); !ok || !strings.Contains(text, s) || s == "" && key != "revision" {
			t.Errorf("version: %s is %v, and the text %q", key, v[key], text)
		}
	}

	v, said := ask(5, "ready", "--name", "json", "--timeout", "1ms")
	if why, _ := v["why"].(string); v["ready"] != false || v["name"] != "" || !strings.Contains(said, why) || why == "" {
		t.Errorf("ready: %v, %q", v, said)
	}
	p := runs(t, "json")
	if v, _ := ask(0, "ready", "--name", "json"); v["ready"] != true || v["name"] != "json" || v["state"] != "ready" || v["verdict"] != "ok" || v["why"] != "" {
		t.Errorf("ready: %v", v)
	}
	c := p.dial()
	if v, _ := ask(0, "stop", "--name", "json"); v["ended"] != true || v["clients"] != 1.0 {
		t.Errorf("stop: %v", v)
	}
	c.closes(1001, "shutting down")
	p.exit(0)
}
