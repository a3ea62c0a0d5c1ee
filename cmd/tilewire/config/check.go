package config

import (
	"fmt"
	"math/bits"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv/proxy"
)

// Check holds c against the ranges of its keys. ErrConfig names the first key that is out of its range.
func (c *Config) Check() error { return c.check(Layers{}) }

// check is Check, with the place that a key came from put before the complaint.
func (c *Config) check(l Layers) error {
	complain := func(key, format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrConfig, l.Blame(key, key+" "+fmt.Sprintf(format, args...)))
	}
	if err := c.each(func(key string, f reflect.StructField, v reflect.Value) error {
		if want := wrong(f.Tag, v); want != "" && !l.flagged(key) {
			return complain(key, "is %v, must be %s", shown(v), want)
		}
		return nil
	}); err != nil {
		return err
	}
	if err := c.checkTopics(l); err != nil {
		return err
	}
	// Of keys that contradict each other that of the highest layer is to blame.
	apart := func(format string, a, b string, args ...any) error {
		if l.flagged(a) && l.flagged(b) {
			return nil
		}
		return fmt.Errorf("%w: %s", ErrConfig, l.Blame(l.top(a, b), fmt.Sprintf(format, args...)))
	}
	if y := c.Layout; y.NetTileMax != 0 && y.NetTileMax < y.NetTileCount {
		if err := apart("layout.net_tile_max is %d, less than layout.net_tile_count (%d)", "layout.net_tile_max", "layout.net_tile_count", y.NetTileMax, y.NetTileCount); err != nil {
			return err
		}
	}
	if f, r := c.Websocket.MaxClientFrameBytes, c.Server.MaxRequestBytes; f < r {
		if err := apart("websocket.max_client_frame_bytes is %d, less than server.max_request_bytes (%d)",
			"websocket.max_client_frame_bytes", "server.max_request_bytes", f, r); err != nil {
			return err
		}
	}
	if n := c.Memory.Numa; n != "local" && n != "interleave" && !l.flagged("memory.numa") {
		if _, err := strconv.ParseUint(n, 10, 10); err != nil {
			return complain("memory.numa", "is %q, must be local, interleave or a node's number", n)
		}
	}
	if _, err := proxy.ParseTrust(c.Server.TrustedProxies); err != nil && !l.flagged("server.trusted_proxies") {
		return complain("server.trusted_proxies", "is wrong: %v", err)
	}
	if p := c.Server.ProxyProtocol; p != "off" && len(c.Server.TrustedProxies) == 0 && !l.flagged("server.proxy_protocol") {
		return complain("server.proxy_protocol", "is %q, and server.trusted_proxies names nobody whose header would be believed", p)
	}
	for _, o := range c.Websocket.AllowedOrigins {
		if o != "*" && o != "same-origin" && !strings.Contains(o, "://") && !l.flagged("websocket.allowed_origins") {
			return complain("websocket.allowed_origins", "has %q, must be same-origin, * or an origin with its scheme, as https://example.org", o)
		}
	}
	return nil
}

// checkTopics checks the topics against each other.
func (c *Config) checkTopics(l Layers) error {
	seen := map[string]bool{}
	for i, t := range c.Topic {
		key, what := fmt.Sprintf("topic[%d].name", i), ""
		switch {
		case l.flagged(key):
			return nil
		case i >= instance.MaxTopics:
			what = fmt.Sprintf("is one of %d topics; an instance has %d at most", len(c.Topic), instance.MaxTopics)
		case !instance.TopicName(t.Name):
			what = fmt.Sprintf("is %q, must be %s", t.Name, instance.TopicNames)
		case seen[t.Name]:
			what = fmt.Sprintf("is %q, as another topic's", t.Name)
		}
		if what != "" {
			return fmt.Errorf("%w: %s", ErrConfig, l.Blame(key, key+" "+what))
		}
		seen[t.Name] = true
		key = fmt.Sprintf("topic[%d].history", i)
		if most := t.RingDepth - t.RingDepth/64; uint64(t.History) > most && !l.flagged(key) { // its producer reclaims a 64th ahead
			return fmt.Errorf("%w: %s", ErrConfig, l.Blame(l.top(key, fmt.Sprintf("topic[%d].ring_depth", i)), fmt.Sprintf(
				"%s is %d; the ring keeps the last %d messages at most (ring_depth is %d)", key, t.History, most, t.RingDepth)))
		}
	}
	return nil
}

// wrong returns what v must be by its tags, or nothing if it is that.
func wrong(tag reflect.StructTag, v reflect.Value) string {
	if words := strings.Fields(tag.Get("oneof")); len(words) > 0 && !slices.Contains(words, v.String()) {
		return strings.Join(words, ", ")
	}
	if tag.Get("some") != "" && v.Len() == 0 {
		return "a list of at least one"
	}
	var n uint64
	switch {
	case v.CanUint():
		n = v.Uint()
	case v.CanInt() && v.Int() < 0:
		return "0 or more"
	case v.CanInt():
		n = uint64(v.Int())
	default:
		return ""
	}
	lo, _ := strconv.ParseUint(tag.Get("min"), 10, 64)
	hi, err := strconv.ParseUint(tag.Get("max"), 10, 64)
	switch {
	case err != nil && n < lo:
		return fmt.Sprintf("at least %d", lo)
	case err == nil && (n < lo || n > hi):
		return fmt.Sprintf("%d to %d", lo, hi)
	case tag.Get("pow2") != "" && bits.OnesCount64(n) != 1:
		return "a power of two"
	}
	return ""
}

// shown is a value as it stands in a file.
func shown(v reflect.Value) string {
	switch v.Kind() {
	case reflect.String:
		return strconv.Quote(v.String())
	case reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = shown(v.Index(i))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return fmt.Sprint(v.Interface())
}
