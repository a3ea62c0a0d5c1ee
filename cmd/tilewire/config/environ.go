package config

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// Prefix of the environment variables that set keys.
const Prefix = "TILEWIRE_"

// others are the variables after Prefix that are no keys, and are read elsewhere: a test looks for all that the sources name.
var others = strings.Fields(`
	SHM_DIR RUN_DIR
	KEEPER_FD KEEPER_PATH READY_FD
	STRESS STRESS_CHILD SEED EXPLORE BREAK SIM SIM_RUNS SIM_FAULT TEST_CHILD TEST_EMFILE BENCH_MIB
	NGINX_MODULES SCREENSHOTS INSIDE`)

// Variable returns the environment variable that sets key: server.listen is TILEWIRE_SERVER_LISTEN.
func Variable(key string) string {
	return Prefix + strings.ToUpper(strings.NewReplacer(".", "_", "[0]", "").Replace(key))
}

// variables returns those of env that begin with Prefix and say something: as usual, an empty one does not.
func variables(env []string) map[string]string {
	vars := map[string]string{}
	for _, e := range env {
		if name, v, ok := strings.Cut(e, "="); ok && v != "" && strings.HasPrefix(name, Prefix) {
			vars[name] = v
		}
	}
	return vars
}

// environ lays the variables over c and returns which key came from which. Errors: a value is none of the key's type; a
// variable that was meant as a key, and is none.
func (c *Config) environ(env []string) (from map[string]string, err error) {
	vars := variables(env)
	from = map[string]string{}
	err = c.each(func(key string, _ reflect.StructField, v reflect.Value) error {
		name := Variable(key)
		text, ok := vars[name]
		if !ok {
			return nil
		}
		from[key] = name
		if err := set(v, text); err != nil {
			return fmt.Errorf("%w: %s=%s: %s %w", ErrConfig, name, text, key, err)
		}
		return nil
	})
	if err != nil {
		return from, err
	}
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		if meant := c.meant(name, vars[name]); meant != "" {
			return from, fmt.Errorf("%w: %s: %s", ErrConfig, name, meant)
		}
	}
	return from, nil
}

// Strange returns the variables of env that begin with Prefix, and of which nobody can tell what they are for: no key,
// nor like one, nor read elsewhere, nor a container orchestrator's. Sorted.
func Strange(env []string) (names []string) {
	c := Default()
	for name, text := range variables(env) {
		if c.stranger(name, text) && c.meant(name, text) == "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// stranger reports whether a variable is none that somebody reads or an orchestrator sets.
func (c *Config) stranger(name, text string) bool {
	return !slices.Contains(others, name[len(Prefix):]) && !orchestrated(name, text) &&
		!slices.ContainsFunc(c.Keys(), func(key string) bool { return Variable(key) == name })
}

// meant says which key a stranger was perhaps meant as: it begins with a table's name, or is like a key. Else nothing.
func (c *Config) meant(name, text string) string {
	if !c.stranger(name, text) {
		return ""
	}
	rest := strings.ToLower(name[len(Prefix):])
	for _, key := range c.Keys() {
		table, _, ok := strings.Cut(strings.ReplaceAll(key, "[0]", ""), ".")
		if last, has := strings.CutPrefix(rest, table+"_"); ok && has {
			return "no key " + table + "." + last + c.near(table+"."+last)
		}
	}
	if near := c.near(rest); near != "" {
		return "no key " + rest + near
	}
	for i, r := range rest { // which of its words are the table's?
		if r != '_' || slices.Contains(c.Keys(), rest[i+1:]) { // TILEWIRE_POD_NAME is no name of ours
			continue
		}
		if near := c.near(rest[:i] + "." + rest[i+1:]); near != "" {
			return "no key " + rest[:i] + "." + rest[i+1:] + near
		}
	}
	return ""
}

// Kubernetes tells each container of the services of its namespace (as Docker's links did): of one that is called tilewire, or
// tilewire-server, by TILEWIRE_SERVICE_HOST, TILEWIRE_SERVER_PORT=tcp://10.0.0.1:80 and so on.
// https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
var (
	serviceName = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)
	servicePort = regexp.MustCompile(`^(tcp|udp|sctp)://`)
)

func orchestrated(name, text string) bool {
	return serviceName.MatchString(name) || strings.HasSuffix(name, "_PORT") && servicePort.MatchString(text)
}
