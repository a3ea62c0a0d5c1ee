package httpsrv

import (
	"bytes"
	"fmt"
	"strings"
)

// CheckOrigins returns ErrParams, naming the first that is none, unless each of
// list is an origin as TileOptions.AllowOrigins takes them: SCHEME://HOST[:PORT],
// "null" (sandboxed pages, files), or "*".
func CheckOrigins(list []string) error {
	for _, o := range list {
		if o == "*" || o == "null" {
			continue
		}
		scheme, host, ok := strings.Cut(o, "://")
		if !ok || scheme == "" || host == "" || strings.ContainsAny(host, "/?#@ \t") {
			return fmt.Errorf("%w: origin %q: want SCHEME://HOST or SCHEME://HOST:PORT without a path, or *", ErrParams, o)
		}
	}
	return nil
}

// originAllowed reports whether a page of origin may open a WebSocket here: one
// of the allow-list, or of the host it asks for (RFC 6455 section 10.2). Clients
// that are no browsers send no Origin. The scheme is not compared for the same
// origin: TLS ends before this server. But where it is known that TLS was used
// (secure) a page that was not fetched by it, which anybody on the way may have
// written, is another origin.
func originAllowed(allow []string, origin, host []byte, secure bool) bool {
	if origin == nil {
		return true
	}
	for _, a := range allow {
		if a == "*" || len(a) == len(origin) && strings.EqualFold(a, string(origin)) { // no allocation: it does not escape
			return true
		}
	}
	scheme, o, ok := bytes.Cut(origin, []byte("://"))
	if !ok || len(o) == 0 || secure && string(scheme) != "https" {
		return false
	}
	// Browsers leave the scheme's own port out of the Origin, other clients may name it in the Host.
	switch string(scheme) {
	case "http":
		host = bytes.TrimSuffix(host, []byte(":80"))
	case "https":
		host = bytes.TrimSuffix(host, []byte(":443"))
	}
	return bytes.EqualFold(o, host)
}

// refuseOrigin answers 403 to a page that may not.
func (t *NetTile) refuseOrigin(slot uint32, origin, host []byte) {
	if t.opt.OnRefusedOrigin != nil {
		t.opt.OnRefusedOrigin(origin, host)
	}
	t.refuse(slot, 403, CloseOrigin)
}
