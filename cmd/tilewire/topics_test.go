package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Two topics of different sizes: each has its clients, its producer, its history.
func TestTopics(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "topics.toml")
	if err := os.WriteFile(file, []byte(`
[[topic]]
name = "ticks"
ring_size_mib = 4
[[topic]]
name = "news"
max_message_kib = 2
ring_size_mib = 1
ring_depth = 1024
history = 3
`), 0o644); err != nil {
		t.Fatal(err)
	}
	p := start(t, "run", "--name", "topics", "--config", file, "--listen", "127.0.0.1:0", "--max-connections", "64", "--drain-grace", "0s", "--drain-time", "0s", "--", "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done")
	p.name = "topics"
	p.serving()
	ticks := p.dial()
	first, err := ticks.next()
	if err != nil {
		t.Fatal(err)
	}
	named := p.dialAt("/ws/ticks")
	if s, err := named.next(); err != nil || number(s) < number(first) {
		t.Errorf("/ws/ticks gives %q, %v", s, err)
	}
	news := p.dialAt("/ws/news")
	if out, _ := verb(t, 0, "publish", "--name", "topics", "--topic", "news", "one", "two", "three", "four"); !strings.HasPrefix(out, "news: 4 messages, seq 1 to 4, epoch ") {
		t.Errorf("publish says %q", out)
	}
	news.gets("one", "two", "three", "four")
	p.dialAt("/ws/news").gets("two", "three", "four")
	if out, _ := verb(t, 0, "tail", "--name", "topics", "--topic", "news", "--last", "2", "--once"); out != "three\nfour\n" {
		t.Errorf("tail says %q", out)
	}
	if out, _ := verb(t, 0, "tail", "--name", "topics", "--topic", "news", "--since", "2", "--once", "--json"); !strings.HasPrefix(out, `{"seq":2,"age_ns":`) || !strings.Contains(out, `"data":"four"`) {
		t.Errorf("tail --json says %q", out)
	}
	if _, said := verb(t, 1, "publish", "--name", "topics", "--topic", "news", strings.Repeat("x", 2049)); !strings.Contains(said, "message too large: 2049 bytes, and 2048 are allowed") {
		t.Errorf("publish says %q", said)
	}
	// The command is the producer of the first.
	if _, said := verb(t, 1, "publish", "--name", "topics", "x"); !strings.Contains(said, "has a producer, process") {
		t.Errorf("publish says %q", said)
	}
	if _, said := verb(t, 2, "publish", "--name", "topics", "--topic", "none", "x"); !strings.Contains(said, "no such topic; these are: ticks, news") {
		t.Errorf("publish says %q", said)
	}
	for _, path := range []string{"/ws/none", "/ws/", "/ws/news/", "/ws/n%65ws"} {
		resp, err := http.Get(strings.TrimSuffix(p.url, "/") + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 404 {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	// A ring that went round says so.
	feed := start(t, "publish", "--name", "topics", "--topic", "news", "--json")
	feed.write(lines(1, 5000))
	feed.in.Close()
	feed.exit(0)
	if !strings.Contains(feed.out.String(), `"first_seq":5,"last_seq":5004,"messages":5000`) {
		t.Errorf("publish says %q", feed.out.String())
	}
	if out, said := verb(t, 0, "tail", "--name", "topics", "--topic", "news", "--since", "5", "--once"); !strings.HasSuffix(out, lines(5000, 1)) || !strings.Contains(said, "messages are lost") {
		t.Errorf("tail ends with %q, and says %q", out[max(0, len(out)-40):], said)
	}
	p.signal(15)
	p.exit(0)
}

func TestTopicFlags(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--topic A", "1 to 64 of a-z"},
		{"--topic a --topic a", "named twice"},
		{"--topic a,ring-size-mib=3", "--topic a,ring-size-mib=3: ring-size-mib=3: a power of two"},
		{"--topic a,history=70000", "keeps the last 64512 messages"},
		{"--topic a,size=3", `no key "size"`},
		{"--ring-depth 1000", "--ring-depth 1000: a power of two"},
	} {
		_, said := verb(t, 2, append([]string{"run", "--name", "flags", "--listen", "127.0.0.1:0"}, strings.Fields(c.args)...)...)
		if !strings.Contains(said, c.want) {
			t.Errorf("%s: %s", c.args, said)
		}
	}
	var many []string
	for i := range 33 {
		many = append(many, "--topic", fmt.Sprint("t", i))
	}
	if _, said := verb(t, 2, append([]string{"run", "--name", "flags"}, many...)...); !strings.Contains(said, "33 topics; 32 at most") {
		t.Error(said)
	}
}
