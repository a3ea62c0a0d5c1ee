package config

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Prefix of the environment variables that set keys.
const Prefix = "TILEWIRE_"

// Variable returns the environment variable that sets key: server.listen is TILEWIRE_SERVER_LISTEN.
func Variable(key string) string {
	return Prefix + strings.ToUpper(strings.NewReplacer(".", "_", "[0]", "").Replace(key))
}

// environ lays the variables over c and returns which key came from which.
func (c *Config) environ(env []string) (from map[string]string, err error) {
	vars := map[string]string{}
	for _, e := range env {
		if name, v, ok := strings.Cut(e, "="); ok && strings.HasPrefix(name, Prefix) {
			vars[name] = v
		}
	}
	from = map[string]string{}
	err = c.each(func(key string, _ reflect.StructField, v reflect.Value) error {
		name := Variable(key)
		text, ok := vars[name]
		if !ok || text == "" { // as usual, an empty variable says nothing
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
	for _, name := range from {
		delete(vars, name)
	}
	for _, key := range c.Keys() { // what is left and begins with a table's name was meant as a key of it
		table, _, ok := strings.Cut(key, ".")
		prefix := Variable(table) + "_"
		for name, text := range vars {
			if rest, has := strings.CutPrefix(name, prefix); ok && has && text != "" {
				meant := strings.TrimSuffix(table, "[0]") + "." + strings.ToLower(rest)
				return from, fmt.Errorf("%w: %s: no key %s%s", ErrConfig, name, meant, c.near(meant))
			}
		}
	}
	return from, nil
}

// Set sets a key from a text, as in the environment: lists are separated by commas. ErrConfig: no such key, or the text
// is none of its type. The range is checked by Check.
func (c *Config) Set(key, text string) error {
	found := false
	err := c.each(func(k string, _ reflect.StructField, v reflect.Value) error {
		if k != key {
			return nil
		}
		found = true
		return set(v, text)
	})
	if err != nil {
		return fmt.Errorf("%w: %s = %s: %w", ErrConfig, key, text, err)
	}
	if !found {
		return fmt.Errorf("%w: no key %s%s", ErrConfig, key, c.near(key))
	}
	return nil
}

// Keys returns the names of all keys.
func (c *Config) Keys() (keys []string) {
	_ = c.each(func(key string, _ reflect.StructField, _ reflect.Value) error {
		keys = append(keys, key)
		return nil
	})
	return keys
}

// topics describes the topics as run's flag --topic takes them; nothing if there is but the one called default, whose keys
// have flags of their own.
func (c *Config) topics() (specs []string) {
	if len(c.Topic) == 1 && c.Topic[0].Name == "default" {
		return nil
	}
	for _, t := range c.Topic {
		specs = append(specs, fmt.Sprintf("%s,ring-size-mib=%d,ring-depth=%d,history=%d,max-message-kib=%d", t.Name, t.RingSizeMib, t.RingDepth, t.History, t.MaxMessageKib))
	}
	return specs
}

// Get returns the values of a key as texts: one, or those of a list. nil: no such key. "topic" stands for all topics together.
func (c *Config) Get(key string) (texts []string) {
	if key == "topic" {
		return c.topics()
	}
	_ = c.each(func(k string, _ reflect.StructField, v reflect.Value) error {
		switch {
		case k != key:
		case v.Kind() == reflect.Slice:
			texts = v.Interface().([]string)
		default:
			texts = []string{fmt.Sprint(v.Interface())}
		}
		return nil
	})
	return texts
}

func set(v reflect.Value, text string) error {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("is true or false")
		}
		v.SetBool(b)
	case reflect.Int:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return errors.New("is a whole number")
		}
		v.SetInt(n)
	case reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			return errors.New("is a whole number from 0 on")
		}
		v.SetUint(n)
	case reflect.Slice:
		var list []string
		for s := range strings.SplitSeq(text, ",") {
			if s = strings.TrimSpace(s); s != "" {
				list = append(list, s)
			}
		}
		v.Set(reflect.ValueOf(list))
	default:
		panic("config: a field of kind " + v.Kind().String())
	}
	return nil
}

// near names the key that was perhaps meant, as " (did you mean ...?)", or nothing.
func (c *Config) near(key string) string {
	best, at := "", 4
	last := key[strings.LastIndexByte(key, '.')+1:]
	_ = c.each(func(k string, _ reflect.StructField, _ reflect.Value) error {
		if d := distance(key, strings.ReplaceAll(k, "[0]", "")); d < at {
			best, at = k, d
		}
		if k[strings.LastIndexByte(k, '.')+1:] == last && at > 1 {
			best, at = k, 1
		}
		return nil
	})
	if best == "" {
		return ""
	}
	return " (did you mean " + strings.ReplaceAll(best, "[0]", "") + "?)"
}

// distance is how many letters must be put in, left out or changed to make a of b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j]+1, diag+1)
		}
	}
	return row[len(b)]
}
