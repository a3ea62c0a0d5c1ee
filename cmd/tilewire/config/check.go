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
func (c *Config) Check() error { return c.check(func(string) string { return "" }) }

// check is Check, with the place that a key came from put before the complaint.
func (c *Config) check(place func(key string) string) error {
	complain := func(key, format string, args ...any) error {
		msg := key + " " + fmt.Sprintf(format, args...)
		if at := place(key); at != "" {
			msg = strings.Replace(at, "...", msg, 1)
		}
		return fmt.Errorf("%w: %s", ErrConfig, msg)
	}
	if err := c.each(func(key string, f reflect.StructField, v reflect.Value) error {
		if want := wrong(f.Tag, v); want != "" {
			return complain(key, "is %v, must be %s", shown(v), want)
		}
		return nil
	}); err != nil {
		return err
	}
	seen := map[string]bool{}
	for i, t := range c.Topic {
		key := fmt.Sprintf("topic[%d].name", i)
		switch {
		case i >= instance.MaxTopics:
			return complain(key, "is one of %d topics; an instance has %d at most", len(c.Topic), instance.MaxTopics)
		case !instance.TopicName(t.Name):
			return complain(key, "is %q, must be %s", t.Name, instance.TopicNames)
		case seen[t.Name]:
			return complain(key, "is %q, as another topic's", t.Name)
		}
		seen[t.Name] = true
	}
	if l := c.Layout; l.NetTileMax != 0 && l.NetTileMax < l.NetTileCount {
		return complain("layout.net_tile_max", "is %d, less than layout.net_tile_count (%d)", l.NetTileMax, l.NetTileCount)
	}
	if _, err := proxy.ParseTrust(c.Server.TrustedProxies); err != nil {
		return complain("server.trusted_proxies", "is wrong: %v", err)
	}
	if p := c.Server.ProxyProtocol; p != "off" && len(c.Server.TrustedProxies) == 0 {
		return complain("server.proxy_protocol", "is %q, and server.trusted_proxies names nobody whose header would be believed", p)
	}
	for _, o := range c.Websocket.AllowedOrigins {
		if o != "*" && o != "same-origin" && !strings.Contains(o, "://") {
			return complain("websocket.allowed_origins", "has %q, must be same-origin, * or an origin with its scheme, as https://example.org", o)
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
