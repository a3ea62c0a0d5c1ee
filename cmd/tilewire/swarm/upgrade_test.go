package swarm

import (
	"strings"
	"testing"
)

func TestParseUpgrade(t *testing.T) {
	key := []byte("dGhlIHNhbXBsZSBub25jZQ==") // RFC 6455 section 1.3
	const good = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
	for _, c := range []struct {
		p      string
		status int
		fault  string
	}{
		{good, 101, ""},
		{good[:len(good)-1], 0, ""},
		{"", 0, ""},
		{strings.Replace(good, "websocket", "h2c", 1), 101, "101 without Upgrade: websocket"},
		{strings.Replace(good, ": Upgrade", ": close", 1), 101, "101 without Connection: Upgrade"},
		{strings.Replace(good, "s3p", "S3p", 1), 101, `wrong Sec-WebSocket-Accept "S3pPLMBiTxaQ9kYGzzhZRbK+xOo="`},
		{"HTTP/1.1 503 Busy\r\n\r\n", 503, "503 Busy"},
		{"SSH-2.0\r\n\r\n", 1, `no HTTP/1.1 status line: "SSH-2.0"`},
		{"HTTP/1.1 abc\r\n\r\n", 1, `no status code: "HTTP/1.1 abc"`},
	} {
		status, head, fault := parseUpgrade([]byte(c.p+"x"), key)
		if status != c.status || fault != c.fault || status != 0 && head != len(c.p) {
			t.Errorf("%q: %d %d %q", c.p, status, head, fault)
		}
	}
	if a, b := upgradeKey(1, 2), upgradeKey(1, 3); a == b || len(strings.TrimRight(string(a[:]), "=")) != 22 {
		t.Errorf("keys %s %s", a, b)
	}
}
