package config

import (
	"reflect"
	"strings"
)

// Flag is a key that was given on the command line.
type Flag struct {
	Key   string
	Name  string   // of the flag, as --net-tiles
	Texts []string // its value in the key's unit, or those of a list
}

// Layers says where each key was set. The zero value: nowhere.
type Layers struct {
	src   source
	env   map[string]string // key: variable
	flags map[string]string // key: flag
}

// The layers, each over those before it.
const (
	byDefault = iota
	byFile
	byVariable
	byFlag
)

// of returns the layer that key was set in.
func (l Layers) of(key string) int {
	switch {
	case l.flags[key] != "":
		return byFlag
	case l.env[key] != "":
		return byVariable
	case l.src.place(key, "") != "":
		return byFile
	}
	return byDefault
}

// Below reports whether key was set, and by no flag.
func (l Layers) Below(key string) bool { at := l.of(key); return at == byFile || at == byVariable }

// flagged reports whether key was given on the command line, whose flag has a check of its own. Topics are given all together.
func (l Layers) flagged(key string) bool {
	return l.of(key) == byFlag || strings.HasPrefix(key, "topic[") && l.of("topic") == byFlag
}

// top returns that of keys which was set in the highest layer, the first of several: it made what is wrong with them together.
func (l Layers) top(keys ...string) string {
	best := keys[0]
	for _, key := range keys[1:] {
		if l.of(key) > l.of(best) {
			best = key
		}
	}
	return best
}

// Blame puts before what is wrong with a key the place where it was set: flag, variable, or line of the file with a caret.
// Of one that was set nowhere it returns what is wrong alone.
func (l Layers) Blame(key, what string) string {
	switch l.of(key) {
	case byFlag:
		return l.flags[key] + ": " + what
	case byVariable:
		return l.env[key] + ": " + what
	case byFile:
		return l.src.place(key, what)
	}
	return what
}

// lay puts the flags over c. What is none of a key's type is left out: the flags' own checks tell of it.
func (l *Layers) lay(c *Config, flags []Flag) {
	l.flags = map[string]string{}
	for _, f := range flags {
		l.flags[f.Key] = f.Name
		_ = c.each(func(key string, _ reflect.StructField, v reflect.Value) error {
			switch {
			case key != f.Key:
			case v.Kind() == reflect.Slice:
				v.Set(reflect.ValueOf(f.Texts))
			default:
				_ = set(v, f.Texts[0])
			}
			return nil
		})
	}
}
