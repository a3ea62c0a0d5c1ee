package config

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// A value is checked when all layers are laid over each other, and told of with the layer that it came from.
func TestLayersAreCheckedTogether(t *testing.T) {
	flag := func(key, name string, texts ...string) []Flag { return []Flag{{key, name, texts}} }
	for _, tc := range []struct {
		name, text string
		env        []string
		flags      []Flag
		want       string // nothing: it is good
	}{
		{"a variable mends the file", "[server]\nmax_connections = 0\n", []string{"TILEWIRE_SERVER_MAX_CONNECTIONS=5"}, nil, ""},
		{"a flag mends the file", "[server]\nmax_connections = 0\n", nil, flag("server.max_connections", "--max-connections", "5"), ""},
		{"a flag mends a variable", "", []string{"TILEWIRE_SERVER_ON_FULL=wait"}, flag("server.on_full", "--on-full", "evict"), ""},
		{"another flag does not", "[server]\nmax_connections = 0\n", nil, flag("server.on_full", "--on-full", "evict"),
			"FILE:2:1: server.max_connections is 0, must be 1 to 1048576\n  max_connections = 0\n  ^^^^^^^^^^^^^^^"},
		{"a flag has a check of its own", "", nil, flag("server.max_connections", "--max-connections", "0"), ""},
		{"and one of its type", "[server]\nmax_connections = 7\n", nil, flag("server.max_connections", "--max-connections", "-1"), ""},
		{"syntax", "[server\n", nil, flag("server.max_connections", "--max-connections", "5"), "FILE:1:"},
		{"a type", "[server]\nmax_connections = \"x\"\n", nil, flag("server.max_connections", "--max-connections", "5"), "FILE:2:19: server.max_connections wants a whole number, not a string"},
		{"an unknown key", "[server]\nmax_conections = 1\n", nil, flag("server.max_connections", "--max-connections", "5"), "FILE:2:1: unknown key"},

		{"the file is to blame", "[layout]\nnet_tile_count = 4\nnet_tile_max = 2\n", nil, nil, "FILE:3:1: layout.net_tile_max is 2, less than layout.net_tile_count (4)\n  net_tile_max = 2\n  ^^"},
		{"the variable is to blame", "[layout]\nnet_tile_max = 2\n", []string{"TILEWIRE_LAYOUT_NET_TILE_COUNT=4"}, nil,
			"TILEWIRE_LAYOUT_NET_TILE_COUNT: layout.net_tile_max is 2, less than layout.net_tile_count (4)"},
		{"the flag is to blame", "[layout]\nnet_tile_max = 2\n", []string{"TILEWIRE_LAYOUT_NET_TILE_COUNT=2"}, flag("layout.net_tile_count", "--net-tiles", "4"),
			"--net-tiles: layout.net_tile_max is 2, less than layout.net_tile_count (4)"},
		{"flags among each other", "", nil, append(flag("layout.net_tile_count", "--net-tiles", "4"), Flag{"layout.net_tile_max", "--net-tiles-max", []string{"2"}}), ""},
		{"frame and request", "[websocket]\nmax_client_frame_bytes = 1024\n", nil, nil,
			"FILE:2:1: websocket.max_client_frame_bytes is 1024, less than server.max_request_bytes (8192)"},
		{"nodes", "[memory]\nnuma = \"near\"\n", nil, nil, "FILE:2:1: memory.numa is \"near\", must be local, interleave or a node's number"},
		{"proxies by flag", "[server]\nproxy_protocol = \"v2\"\n", nil, flag("server.trusted_proxies", "--trusted-proxy", "10.0.0.1"), ""},

		{"depth and history", "[[topic]]\nhistory = 5000\n", nil, flag("topic[0].ring_depth", "--ring-depth", "1024"),
			"--ring-depth: topic[0].history is 5000; the ring keeps the last 1008 messages at most"},
		{"history of the second", "[[topic]]\nname = \"a\"\n[[topic]]\nname = \"b\"\nhistory = 99999\n", nil, nil, "FILE:5:1: topic[1].history is 99999; the ring keeps"},
		{"topics by flag", "[[topic]]\nname = \"a\"\n[[topic]]\nname = \"a\"\nring_depth = 3\n", nil, flag("topic", "--topic", "x"), ""},
	} {
		path := write(t, tc.text)
		_, _, err := Load(path, tc.env, tc.flags...)
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.want != "" && (!errors.Is(err, ErrConfig) || !strings.HasPrefix(strings.ReplaceAll(err.Error(), path, "FILE"), "configuration: "+tc.want)):
			t.Errorf("%s: %v\nwant %s", tc.name, err, tc.want)
		}
	}
}

func TestLayersValues(t *testing.T) {
	path := write(t, "name = \"file\"\n[server]\nmax_connections = 10\nlisten = [\"127.0.0.1:1\"]\n")
	c, l, err := Load(path, []string{"TILEWIRE_SERVER_MAX_CONNECTIONS=20", "TILEWIRE_SERVER_ON_FULL=evict"},
		Flag{"server.max_connections", "--max-connections", []string{"30"}}, Flag{"server.listen", "--listen", []string{"a,b", "c"}})
	if err != nil || c.Server.MaxConnections != 30 || !slices.Equal(c.Server.Listen, []string{"a,b", "c"}) {
		t.Errorf("%+v, %v", c.Server, err)
	}
	for key, want := range map[string]string{
		"server.max_connections": "--max-connections: x", "server.on_full": "TILEWIRE_SERVER_ON_FULL: x", "name": path + ":1:1: x\n  name = \"file\"\n  ^^^^", "user": "x",
	} {
		if got := l.Blame(key, "x"); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
		if got := l.Below(key); got != (key == "name" || key == "server.on_full") {
			t.Errorf("%s: below %v", key, got)
		}
	}
}
