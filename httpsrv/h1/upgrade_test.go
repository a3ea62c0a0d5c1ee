package h1

import (
	"strings"
	"testing"
)

// upgrade returns a handshake with one field line replaced, or left out if line is empty.
func upgrade(name, line string) string {
	s := "GET /ws HTTP/1.1\r\n"
	for _, f := range []string{"Host: a", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"} {
		if name != "" && strings.HasPrefix(f, name+":") {
			if f = line; f == "" {
				continue
			}
		}
		s += f + "\r\n"
	}
	return s + "\r\n"
}

func TestCheckUpgrade(t *testing.T) {
	const key = "Sec-WebSocket-Key"
	const ver = "Sec-WebSocket-Version"
	for _, c := range []struct {
		in     string
		status uint16
		reason Reason
	}{
		{upgrade("", ""), 0, ReasonOK},
		{upgrade("Upgrade", "UPGRADE:\tWebSocket "), 0, ReasonOK},
		{upgrade("Upgrade", "Upgrade: h2c, websocket"), 0, ReasonOK},
		{upgrade("Upgrade", "Upgrade: h2c\r\nUpgrade: websocket"), 0, ReasonOK},
		{upgrade("Connection", "Connection: keep-alive , UPGRADE"), 0, ReasonOK},
		{upgrade("Connection", "connection: keep-alive\r\nConnection: upgrade"), 0, ReasonOK},
		{upgrade(key, key+":   AAAAAAAAAAAAAAAAAAAAAA==\t"), 0, ReasonOK},
		{upgrade("", "") + "early data is the caller's matter", 0, ReasonOK},
		{upgrade("Host", "Host: a\r\nContent-Length: 0"), 0, ReasonOK},

		{"HEAD" + upgrade("", "")[3:], 405, ReasonUnknownMethod},
		{strings.Replace("PUT"+upgrade("", "")[3:], "Host", "Content-Length: 0\r\nHost", 1), 405, ReasonUnknownMethod},
		{strings.Replace(upgrade("", ""), "HTTP/1.1", "HTTP/1.0", 1), 400, ReasonBadRequest},
		{upgrade("Host", "Host: a\r\nContent-Length: 1"), 400, ReasonBadRequest},
		{upgrade("Upgrade", ""), 426, ReasonWsMissingUpgrade},
		{upgrade("Upgrade", "Upgrade: websockets"), 426, ReasonWsMissingUpgrade},
		{upgrade("Upgrade", "Upgrade: websocket/13"), 426, ReasonWsMissingUpgrade},
		{upgrade("Connection", ""), 400, ReasonWsMissingUpgrade},
		{upgrade("Connection", "Connection: close"), 400, ReasonWsMissingUpgrade},
		{upgrade(ver, ""), 400, ReasonWsMissingVersion},
		{upgrade(ver, ver+": 8"), 426, ReasonWsUnexpectedVersion},
		{upgrade(ver, ver+": 130"), 426, ReasonWsUnexpectedVersion},
		{upgrade(ver, ver+": 13, 8"), 426, ReasonWsUnexpectedVersion},
		{upgrade(ver, ver+":"), 426, ReasonWsUnexpectedVersion},
		{upgrade(ver, ver+": 13\r\n"+ver+": 13"), 400, ReasonWsUnexpectedVersion},
		{upgrade(key, ""), 400, ReasonWsMissingKey},
		{upgrade(key, key+":"), 400, ReasonWsBadKey},
		{upgrade(key, key+": "+strings.Repeat("A", 24)), 400, ReasonWsBadKey}, // 18 octets
		{upgrade(key, key+": "+strings.Repeat("A", 23)+"="), 400, ReasonWsBadKey},
		{upgrade(key, key+": "+strings.Repeat("A", 20)+"===="), 400, ReasonWsBadKey},
		{upgrade(key, key+": "+strings.Repeat("A", 21)+"-=="), 400, ReasonWsBadKey},
		{upgrade(key, key+": "+strings.Repeat("A", 22)), 400, ReasonWsBadKey},
		{upgrade(key, key+": "+strings.Repeat("A", 26)+"=="), 400, ReasonWsBadKey},
		{upgrade(key, key+": "+strings.Repeat("A", 22)+"==\r\n"+key+": "+strings.Repeat("A", 22)+"=="), 400, ReasonWsBadKey},
	} {
		h, v := everyCut(t, []byte(c.in), &limits)
		if !v.OK() {
			t.Errorf("%q: %v", c.in, v)
			continue
		}
		if v = CheckUpgrade(&h); v.Status != c.status || v.Reason != c.reason || v.Failed() != (v.Why != WhyNone) {
			t.Errorf("%q: %v, want %d %v", c.in, v, c.status, c.reason)
		}
	}
}
