package config

import (
	"fmt"
	"reflect"
	"strings"
)

// TOML returns c as a file: every key with the value in force.
func (c *Config) TOML() string {
	var b strings.Builder
	table := ""
	_ = c.each(func(key string, _ reflect.StructField, v reflect.Value) error {
		in, name := "", key
		if i := strings.LastIndexByte(key, '.'); i >= 0 {
			in, name = key[:i], key[i+1:]
		}
		if in != table {
			table = in
			if head, _, ok := strings.Cut(in, "["); ok {
				fmt.Fprintf(&b, "\n[[%s]]\n", head)
			} else {
				fmt.Fprintf(&b, "\n[%s]\n", in)
			}
		}
		fmt.Fprintf(&b, "%s = %s\n", name, shown(v))
		return nil
	})
	return b.String()
}
