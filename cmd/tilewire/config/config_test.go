package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tilewire.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Every key has a line with a comment in default.toml, and default.toml has no others (it is decoded strictly).
func TestDefaultFileExplainsEveryKey(t *testing.T) {
	c := Default()
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	_ = c.each(func(key string, _ reflect.StructField, _ reflect.Value) error {
		name := key[strings.LastIndexByte(key, '.')+1:]
		found := false
		for line := range strings.Lines(DefaultFile) {
			k, rest, ok := strings.Cut(line, " = ")
			found = found || ok && k == name && strings.Contains(rest, "# ")
		}
		if !found {
			t.Errorf("default.toml does not explain %s", key)
		}
		return nil
	})
}

// What TOML shows is the same configuration, and a file of defaults changes nothing.
func TestShownIsReadBack(t *testing.T) {
	want := Default()
	want.Server.Listen = []string{"[::]:80", `unix:/run/a "b".sock`}
	want.Websocket.AllowedOrigins = nil
	want.Topic[0].History = 7
	got, _, err := Load(write(t, want.TOML()), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, want.TOML())
	}
	got.Websocket.AllowedOrigins = nil // an empty list is not nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if got, _, err := Load(write(t, DefaultFile), nil); err != nil || !reflect.DeepEqual(got, Default()) {
		t.Errorf("the default file: %+v, %v", got, err)
	}
}

func TestLayers(t *testing.T) {
	path := write(t, "name = \"file\"\n[server]\nmax_connections = 10\n[[topic]]\nhistory = 3\n")
	c, _, err := Load(path, []string{"TILEWIRE_SERVER_MAX_CONNECTIONS=20", "TILEWIRE_SERVER_LISTEN=127.0.0.1:1, [::1]:2", "TILEWIRE_OTHER=x", "HOME=/"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "file" || c.Server.MaxConnections != 20 || c.Topic[0].History != 3 || c.Topic[0].RingSizeMib != 64 || c.Topic[0].Name != "default" {
		t.Errorf("%+v", c)
	}
	if want := []string{"127.0.0.1:1", "[::1]:2"}; !reflect.DeepEqual(c.Server.Listen, want) {
		t.Errorf("listen %q, want %q", c.Server.Listen, want)
	}
	if err := c.Set("server.max_connections", "30"); err != nil || c.Server.MaxConnections != 30 {
		t.Errorf("Set: %v, %d", err, c.Server.MaxConnections)
	}
}

func TestErrorsNamePlaceAndMend(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"[server]\nlisten = [\"127.0.0.1:1\"]\nmax_conections = 5\n", "FILE:3:1: unknown key server.max_conections (did you mean server.max_connections?)\n  max_conections = 5\n  ^^^^^^^^^^^^^^"},
		{"listen = [\"127.0.0.1:1\"]\n", "FILE:1:1: unknown key listen (did you mean server.listen?)\n  listen = [\"127.0.0.1:1\"]\n  ^^^^^^"},
		{"[server]\n  max_connections = 0\n", "FILE:2:3: server.max_connections is 0, must be 1 to 1048576\n    max_connections = 0\n    ^^^^^^^^^^^^^^^"},
		{"[server]\non_full = \"wait\"\n", "FILE:2:1: server.on_full is \"wait\", must be refuse, evict\n  on_full = \"wait\"\n  ^^^^^^^"},
		{"[[topic]]\nring_size_mib = 48\n", "FILE:2:1: topic[0].ring_size_mib is 48, must be a power of two\n  ring_size_mib = 48\n  ^^^^^^^^^^^^^"},
		{"[[topic]]\nname = \"a\"\n[[topic]]\nname = \"a\"\n", "FILE:4:1: topic[1].name is \"a\", as another topic's\n  name = \"a\"\n  ^^^^"},
		{"[[topic]]\nname = \"a/b\"\n", "FILE:2:1: topic[0].name is \"a/b\", must be 1 to 64 of a-z, 0-9, '.', '_' and '-', the first of them no '.'\n  name = \"a/b\"\n  ^^^^"},
		{"[server]\nlisten = []\n", "FILE:2:1: server.listen is [], must be a list of at least one\n  listen = []\n  ^^^^^^"},
		{"[server]\nproxy_protocol = \"v3\"\n", "FILE:2:1: server.proxy_protocol is \"v3\", must be off, v1, v2, any\n  proxy_protocol = \"v3\"\n  ^^^^^^^^^^^^^^"},
		{"[server]\nproxy_protocol = \"v2\"\n", "FILE:2:1: server.proxy_protocol is \"v2\", and server.trusted_proxies names nobody whose header would be believed\n  proxy_protocol = \"v2\"\n  ^^^^^^^^^^^^^^"},
		{"[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"lb\"]\n", "FILE:2:1: server.trusted_proxies is wrong: trusted proxy \"lb\": want an address, a network (10.0.0.0/8, 2001:db8::/32) or unix\n  trusted_proxies = [\"10.0.0.0/8\", \"lb\"]\n  ^^^^^^^^^^^^^^^"},
		{"[websocket]\nallowed_origins = [\"example.org\"]\n", "FILE:2:1: websocket.allowed_origins has \"example.org\", must be same-origin, * or an origin with its scheme, as https://example.org\n  allowed_origins = [\"example.org\"]\n  ^^^^^^^^^^^^^^^"},
	} {
		path := write(t, tc.text)
		_, _, err := Load(path, nil)
		if !errors.Is(err, ErrConfig) {
			t.Errorf("%q: %v", tc.text, err)
			continue
		}
		if got := strings.ReplaceAll(err.Error(), path, "FILE"); got != "configuration: "+tc.want {
			t.Errorf("%q:\n got %s\nwant configuration: %s", tc.text, got, tc.want)
		}
	}
	for _, tc := range []struct{ text, has string }{
		{"[server\n", ":1:"},
		{"[server]\nmax_connections = \"many\"\n", ":2:"},
		{"[server]\nmax_connections = -1\n", ":2:"},
		{"name = \"a\"\nname = \"b\"\n", ":2:"},
	} {
		path := write(t, tc.text)
		if _, _, err := Load(path, nil); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), path+tc.has) || !strings.Contains(err.Error(), "^") {
			t.Errorf("%q: %v", tc.text, err)
		}
	}
	if _, _, err := Load("/nonexistent/tilewire.toml", nil); !errors.Is(err, ErrConfig) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for env, want := range map[string]string{
		"TILEWIRE_SERVER_MAX_CONNECTIONS=many": "configuration: TILEWIRE_SERVER_MAX_CONNECTIONS=many: server.max_connections is a whole number from 0 on",
		"TILEWIRE_SERVER_ON_FULL=wait":         "configuration: TILEWIRE_SERVER_ON_FULL: server.on_full is \"wait\", must be refuse, evict",
		"TILEWIRE_SERVER_MAX_CONECTIONS=5":     "configuration: TILEWIRE_SERVER_MAX_CONECTIONS: no key server.max_conections (did you mean server.max_connections?)",
		"TILEWIRE_TOPIC_HISTRY=5":              "configuration: TILEWIRE_TOPIC_HISTRY: no key topic.histry (did you mean topic.history?)",
		"TILEWIRE_SERVER_KEEP_ALIVE=perhaps":   "configuration: TILEWIRE_SERVER_KEEP_ALIVE=perhaps: server.keep_alive is true or false",
	} {
		if _, _, err := Load("", []string{env}); err == nil || err.Error() != want {
			t.Errorf("%s: %v", env, err)
		}
	}
	c := Default()
	if err := c.Set("server.lisen", "x"); err == nil || err.Error() != "configuration: no key server.lisen (did you mean server.listen?)" {
		t.Errorf("Set: %v", err)
	}
}

// Whatever the file holds, it is refused or obeyed, and what is obeyed is in range.
func FuzzLoad(f *testing.F) {
	f.Add(DefaultFile)
	f.Add("[[topic]]\n[[topic]]\nname=1\n")
	f.Add("server.listen = [\"x\"]\n[server]\n")
	f.Add("topic = [{name=\"default\"}]\n\"server\".on_full = 'x'\n")
	f.Fuzz(func(t *testing.T, text string) {
		c := Default()
		if c.decode("f", []byte(text)) != nil {
			return
		}
		if err := c.check(Layers{src: source{"f", []byte(text)}}); err != nil && !errors.Is(err, ErrConfig) {
			t.Error(err)
		}
	})
}

func ExampleConfig_Set() {
	c := Default()
	fmt.Println(c.Set("server.max_connections", "many"))
	// Output: configuration: server.max_connections = many: is a whole number from 0 on
}
