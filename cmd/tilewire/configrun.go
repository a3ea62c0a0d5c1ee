package main

import (
	"fmt"
	"os"
	"reflect"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tilewire/tilewire/cmd/tilewire/config"
)

// configFlags says which flag of run obeys which key of the configuration, and the unit that the key's name gives its number.
var configFlags = []struct{ key, flag, unit string }{
	{"name", "name", ""},
	{"user", "user", ""},
	{"layout.affinity", "affinity", ""},
	{"memory.backing", "backing", ""},
	{"topic[0].ring_size_mib", "ring-size-mib", ""},
	{"topic[0].history", "history", ""},
	{"server.listen", "listen", ""},
	{"server.max_connections", "max-connections", ""},
	{"server.max_connections_per_ip", "max-connections-per-ip", ""},
	{"server.accept_rate_per_second", "accept-rate", ""},
	{"server.on_full", "on-full", ""},
	{"server.header_timeout_millis", "header-timeout", "ms"},
	{"server.body_timeout_millis", "body-timeout", "ms"},
	{"server.idle_timeout_millis", "idle-timeout", "ms"},
	{"server.keep_alive", "keep-alive", ""},
	{"websocket.allowed_origins", "allow-origin", ""},
	{"websocket.ping_interval_seconds", "ping-interval", "s"},
	{"websocket.pong_timeout_seconds", "pong-timeout", "s"},
	{"slow_client.max_lag_bytes", "max-lag-bytes", ""},
	{"slow_client.max_lag_seconds", "max-lag", "s"},
	{"slow_client.write_timeout_millis", "write-timeout", "ms"},
	{"supervisor.restart_max_per_minute", "restart-max", ""},
	{"development.sandbox", "sandbox", ""},
}

// configure sets the flags of cmd that were not given, from the environment and the configuration file at path (none if
// empty). Flags that it sets count as given.
func configure(cmd *cobra.Command, path string) error {
	c, err := config.Load(path, os.Environ())
	if err != nil {
		return err
	}
	def := config.Default()
	for _, m := range configFlags {
		want := c.Get(m.key)
		if cmd.Flags().Changed(m.flag) || reflect.DeepEqual(want, def.Get(m.key)) {
			continue
		}
		f := cmd.Flags().Lookup(m.flag)
		if err := setFlag(f, want, m.unit); err != nil {
			return fmt.Errorf("%w: %s: %w", config.ErrConfig, m.key, err)
		}
		f.Changed = true
	}
	return nil
}

func setFlag(f *pflag.Flag, values []string, unit string) error {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		// It is always allowed, and no flag.
		return list.Replace(slices.DeleteFunc(slices.Clone(values), func(s string) bool { return s == "same-origin" }))
	}
	return f.Value.Set(values[0] + unit)
}
