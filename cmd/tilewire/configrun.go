package main

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tilewire/tilewire/cmd/tilewire/config"
)

// configFlags says which flag of run obeys which key of the configuration, the unit that the key's name gives its number,
// and whether a reload changes it while the instance runs; the others need a restart.
var configFlags = []struct {
	key, flag, unit string
	live            bool
}{
	{"name", "name", "", false},
	{"user", "user", "", false},
	{"log.level", "log-level", "", true},
	{"log.format", "log-format", "", false},
	{"layout.affinity", "affinity", "", false},
	{"layout.net_tile_count", "net-tiles", "", true},
	{"layout.net_tile_max", "net-tiles-max", "", false},
	{"memory.backing", "backing", "", false},
	{"memory.max_page_size", "max-page-size", "", false},
	{"memory.numa", "numa", "", false},
	{"topic", "topic", "", false},
	{"topic[0].ring_size_mib", "ring-size-mib", "", false},
	{"topic[0].ring_depth", "ring-depth", "", false},
	{"topic[0].max_message_kib", "max-message-kib", "", false},
	{"topic[0].history", "history", "", false},
	{"server.listen", "listen", "", false},
	{"server.max_connections", "max-connections", "", false},
	{"server.max_connections_per_ip", "max-connections-per-ip", "", true},
	{"server.accept_rate_per_second", "accept-rate", "", true},
	{"server.max_request_bytes", "max-request-bytes", "", false},
	{"server.on_full", "on-full", "", true},
	{"server.header_timeout_millis", "header-timeout", "ms", true},
	{"server.body_timeout_millis", "body-timeout", "ms", true},
	{"server.idle_timeout_millis", "idle-timeout", "ms", true},
	{"server.keep_alive", "keep-alive", "", true},
	{"server.proxy_protocol", "proxy-protocol", "", true},
	{"server.trusted_proxies", "trusted-proxy", "", true},
	{"websocket.allowed_origins", "allow-origin", "", true},
	{"websocket.max_client_frame_bytes", "max-client-frame-bytes", "", false},
	{"websocket.ping_interval_seconds", "ping-interval", "s", true},
	{"websocket.pong_timeout_seconds", "pong-timeout", "s", true},
	{"slow_client.policy", "on-lag", "", true},
	{"slow_client.max_lag_messages", "max-lag-messages", "", false},
	{"slow_client.max_lag_bytes", "max-lag-bytes", "", true},
	{"slow_client.max_lag_seconds", "max-lag", "s", true},
	{"slow_client.write_timeout_millis", "write-timeout", "ms", true},
	{"steering.mode", "steering", "", true},
	{"shutdown.grace_millis", "drain-grace", "ms", true},
	{"shutdown.drain_millis", "drain-time", "ms", true},
	{"shutdown.lame_duck_millis", "lame-duck", "ms", true},
	{"shutdown.linger_millis", "linger", "ms", true},
	{"supervisor.restart", "restart", "", true},
	{"supervisor.restart_max_per_minute", "restart-max", "", true},
	{"supervisor.heartbeat_timeout_millis", "heartbeat-timeout", "ms", true},
	{"admin.listen", "admin-listen", "", false},
	{"development.sandbox", "sandbox", "", false},
}

// configure sets the flags of cmd that were not given, from the environment and the configuration file at path (none if
// empty), and returns where each key was set. Flags that it sets count as given.
func configure(cmd *cobra.Command, path string) (config.Layers, error) {
	var over []config.Flag
	for _, m := range configFlags {
		if f := cmd.Flags().Lookup(m.flag); f.Changed {
			over = append(over, config.Flag{Key: m.key, Name: "--" + m.flag, Texts: inUnit(f, m.unit)})
		}
	}
	c, layers, err := config.Load(path, os.Environ(), over...)
	if err != nil {
		return layers, err
	}
	def := config.Default()
	for _, m := range configFlags {
		want := c.Get(m.key)
		if cmd.Flags().Changed(m.flag) || reflect.DeepEqual(want, def.Get(m.key)) {
			continue
		}
		f := cmd.Flags().Lookup(m.flag)
		if err := setFlag(f, want, m.unit); err != nil {
			return layers, fmt.Errorf("%w: %s", config.ErrConfig, layers.Blame(m.key, m.key+": "+err.Error()))
		}
		f.Changed = true
	}
	return layers, nil
}

// inUnit is the value of a flag as its key has it: a whole number of the unit, or texts.
func inUnit(f *pflag.Flag, unit string) []string {
	d, err := time.ParseDuration(f.Value.String())
	if unit == "" || err != nil {
		return flagTexts(f)
	}
	one, _ := time.ParseDuration("1" + unit)
	return []string{strconv.FormatInt(int64(d.Round(one)/one), 10)}
}

// tellStrange warns of variables of the environment that may have been meant as keys.
func tellStrange() {
	for _, name := range config.Strange(os.Environ()) {
		fmt.Fprintf(os.Stderr, "  %s is no key, and does nothing (`tilewire config default` shows the keys)\n", name)
	}
}

var flagName = regexp.MustCompile(`^--([a-z-]+)`)

// blame says of an error that begins with a flag, which nobody gave, where the key that set it stands.
func (r *runFlags) blame(err error) error {
	m := flagName.FindStringSubmatch(err.Error())
	if m == nil {
		return err
	}
	for _, c := range configFlags {
		if c.flag == m[1] && r.layers.Below(c.key) {
			return fmt.Errorf("%w: %s", config.ErrConfig, r.layers.Blame(c.key, c.key+strings.TrimPrefix(err.Error(), m[0])))
		}
	}
	return err
}

func setFlag(f *pflag.Flag, values []string, unit string) error {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		// It is always allowed, and no flag.
		return list.Replace(slices.DeleteFunc(slices.Clone(values), func(s string) bool { return s == "same-origin" }))
	}
	return f.Value.Set(values[0] + unit)
}

// flagTexts returns the values of a flag: one, or those of a list.
func flagTexts(f *pflag.Flag) []string {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return list.GetSlice()
	}
	return []string{f.Value.String()}
}

// given are the flags that were given on the command line, to be laid over a configuration that is read again.
type given map[string][]string

func givenFlags(cmd *cobra.Command) given {
	g := given{}
	cmd.Flags().Visit(func(f *pflag.Flag) { g[f.Name] = flagTexts(f) })
	return g
}

// set gives them to cmd.
func (g given) set(cmd *cobra.Command) error {
	for name, texts := range g {
		f := cmd.Flags().Lookup(name)
		if err := setFlag(f, texts, ""); err != nil {
			return err
		}
		f.Changed = true
	}
	return nil
}

// keyTexts are the values in force, by key.
func keyTexts(cmd *cobra.Command) map[string]string {
	m := map[string]string{}
	for _, c := range configFlags {
		m[c.key] = strings.Join(flagTexts(cmd.Flags().Lookup(c.flag)), ", ")
	}
	return m
}
