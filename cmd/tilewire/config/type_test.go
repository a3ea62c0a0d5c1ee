package config

import (
	"errors"
	"strings"
	"testing"
)

// A value of another type is told of in the words of the file, not in Go's.
func TestTypesInUsersWords(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"[server]\nmax_connections = \"many\"\n", "f:2:19: server.max_connections wants a whole number, not a string\n  max_connections = \"many\"\n                    ^"},
		{"server.max_connections = 5.5\n", "f:1:26: server.max_connections wants a whole number, not a number with a point or an exponent"},
		{"server = {max_connections = [1]}\n", "f:1:29: server.max_connections wants a whole number, not a list"},
		{"[server]\nmax_connections = 1979-05-27\n", "f:2:19: server.max_connections wants a whole number, not a date"},
		{"[server]\nmax_connections = {a = 1}\n", "f:2:19: server.max_connections wants a whole number, not a table"},
		{"[server]\nkeep_alive = \"yes\"\n", "f:2:14: server.keep_alive wants true or false, not a string"},
		{"[server]\nlisten = \"a\"\n", "f:2:10: server.listen wants a list of strings, not a string"},
		{"[server]\nlisten = [\n  \"a\",\n  1]\n", "f:4:3: server.listen wants a list of strings, and one of these is a whole number"},
		{"name = true\n", "f:1:8: name wants a string, not true or false"},
		{"server = 1\n", "f:1:10: server wants a table ([server]), not a whole number"},
		{"[[server]]\n", "f:1:3: server wants a table ([server]), not a list of tables"},
		{"[server.listen]\nx = 1\n", "f:1:2: server.listen wants a list of strings, not a table"},
		{"topic = [1]\n", "f:1:10: topic wants tables ([[topic]]), and one of these is a whole number"},
		{"topic = 1\n", "f:1:9: topic wants tables ([[topic]]), not a whole number"},
		{"[[topic]]\nname = \"a\"\n[[topic]]\nhistory = \"3\"\n", "f:4:11: topic.history wants a whole number, not a string"},
		{"[server]\nmax_connections = -1\n", "f:2:19: server.max_connections is -1, must be 1 to 1048576"},
		{"[server]\nmax_connections = 5000000000\n", "f:2:19: server.max_connections is 5000000000, must be 1 to 1048576"},
		{"server = {max_connections = -1}\n", "f:1:29: -1 is out of range"},
		{"topic = [{name = 4}]\n", "f:1:18: topic.name wants a string, not a whole number"},
		{"[[topic]]\nhistory = 5000000000\n", "f:2:11: topic.history is 5000000000, must be 0 to 4294967295"},
		{"[slow_client]\nmax_lag_bytes = -5\n", "f:2:17: slow_client.max_lag_bytes is -5, must be 0 to 18446744073709551615"},
	} {
		c := Default()
		err := c.decode("f", []byte(tc.text))
		if !errors.Is(err, ErrConfig) || !strings.HasPrefix(err.Error(), "configuration: "+tc.want+"\n") && err.Error() != "configuration: "+tc.want {
			t.Errorf("%q:\n got %v\nwant %s", tc.text, err, tc.want)
		}
		if err != nil && (strings.Contains(err.Error(), "TOML") || strings.Contains(err.Error(), "uint") || !strings.HasSuffix(err.Error(), "^")) {
			t.Errorf("%q: %v", tc.text, err)
		}
	}
}
