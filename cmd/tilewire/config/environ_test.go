package config

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A variable that was meant as a key is an error, one of which that cannot be told is named, and what others need is neither.
func TestVariables(t *testing.T) {
	for _, tc := range []struct{ env, err string }{
		{"TILEWIRE_SERVER_MAX_CONECTIONS=5", "no key server.max_conections (did you mean server.max_connections?)"},
		{"TILEWIRE_SERVER_THREADS=5", "no key server.threads"},
		{"TILEWIRE_SLOW_CLIENT_MAX_LAG=5", "no key slow_client.max_lag (did you mean slow_client.max_lag_messages?)"},
		{"TILEWIRE_SERVER_PORT=8080", "no key server.port"},
		{"TILEWIRE_WEBSCKET_PING_INTERVAL_SECONDS=5", "no key webscket_ping_interval_seconds (did you mean websocket.ping_interval_seconds?)"},
		{"TILEWIRE_LISTEN=[::]:80", "no key listen (did you mean server.listen?)"},
		{"TILEWIRE_LIMITS_MAX_CONNECTIONS=5", "no key limits.max_connections (did you mean server.max_connections?)"},
		{"TILEWIRE_LOGLEVEL=debug", "no key loglevel (did you mean log.level?)"},
		{"TILEWIRE_NAM=x", "no key nam (did you mean name?)"},
	} {
		name, _, _ := strings.Cut(tc.env, "=")
		if _, _, err := Load("", []string{tc.env}); err == nil || err.Error() != "configuration: "+name+": "+tc.err {
			t.Errorf("%s: %v\nwant %s", tc.env, err, tc.err)
		}
		if s := Strange([]string{tc.env}); s != nil {
			t.Errorf("%s is an error, and strange as well: %q", tc.env, s)
		}
	}
	strange := []string{"TILEWIRE_HOME", "TILEWIRE_IMAGE_TAG", "TILEWIRE_POD_NAME", "TILEWIRE_PORT", "TILEWIRE_VERSION"}
	env := []string{"TILEWIRE_SERVER_LISTEM=", "HOME=/", "TILEWIREX=y"}
	for _, name := range strange {
		env = append(env, name+"=8080")
	}
	for _, name := range others {
		env = append(env, Prefix+name+"=x")
	}
	for _, service := range []string{"TILEWIRE", "TILEWIRE_SERVER", "TILEWIRE_ADMIN"} { // as a container finds it
		env = append(env, service+"_SERVICE_HOST=10.0.0.1", service+"_SERVICE_PORT=8080", service+"_SERVICE_PORT_HTTP=8080")
		for _, v := range []string{"=tcp://10.0.0.1:8080", "_TCP=tcp://10.0.0.1:8080", "_TCP_PROTO=tcp", "_TCP_PORT=8080", "_TCP_ADDR=10.0.0.1"} {
			if v[0] == '=' {
				env = append(env, service+"_PORT"+v)
			} else {
				env = append(env, service+"_PORT_8080"+v)
			}
		}
	}
	env = slices.DeleteFunc(env, func(v string) bool { return v == "TILEWIRE_PORT=tcp://10.0.0.1:8080" }) // the one that is set by hand is in strange
	if c, _, err := Load("", env); err != nil || !reflect.DeepEqual(c, Default()) {
		t.Errorf("%v", err)
	}
	if s := Strange(env); !slices.Equal(s, strange) {
		t.Errorf("strange: %q, want %q", s, strange)
	}
	if s := Strange([]string{"TILEWIRE_PORT=tcp://10.0.0.1:8080"}); s != nil {
		t.Errorf("strange: %q", s)
	}
}

// Whatever variable the sources name is a key or in the list of others, and those in the list are named there.
func TestOthers(t *testing.T) {
	if _, err := os.Stat("../../../go.mod"); err != nil {
		t.Skip("not in the source tree: ", err)
	}
	c, named := Default(), map[string]bool{}
	names := regexp.MustCompile(Prefix + `[A-Z0-9_]*[A-Z0-9]`)
	err := filepath.WalkDir("../../..", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (e.Name() == ".git" || path == "../../../cmd/tilewire/config"): // tests of misspelt ones
			return filepath.SkipDir
		case !e.Type().IsRegular() || filepath.Base(path) == "config.txtar" || !slices.Contains([]string{".go", ".sh", ".txtar", ".service", ".md", ""}, filepath.Ext(path)):
			return nil
		}
		text, err := os.ReadFile(path)
		if bytes.IndexByte(text, 0) >= 0 { // no text
			return nil
		}
		for _, name := range names.FindAll(text, -1) {
			named[string(name)] = true
			if c.stranger(string(name), "x") {
				t.Errorf("%s: %s is neither a key nor in the list of others", path, name)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range others {
		if !named[Prefix+name] {
			t.Errorf("nothing reads %s%s", Prefix, name)
		}
	}
}
