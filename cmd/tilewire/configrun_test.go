package main

import (
	"reflect"
	"testing"

	"github.com/spf13/pflag"

	"github.com/tilewire/tilewire/cmd/tilewire/config"
)

// Every key of the configuration is obeyed by a flag of run, whose default is that of the key.
func TestConfigFlags(t *testing.T) {
	obeyed := map[string]bool{"topic[0].name": true} // there is one
	def := config.Default()
	run := runCmd()
	for _, m := range configFlags {
		obeyed[m.key] = true
		f := run.Flags().Lookup(m.flag)
		if f == nil {
			t.Errorf("%s: run has no flag %s", m.key, m.flag)
			continue
		}
		fresh := runCmd().Flags().Lookup(m.flag)
		if err := setFlag(fresh, def.Get(m.key), m.unit); err != nil {
			t.Errorf("%s: %v", m.key, err)
		}
		same := fresh.Value.String() == f.DefValue
		if list, ok := fresh.Value.(pflag.SliceValue); ok {
			same = reflect.DeepEqual(list.GetSlice(), f.Value.(pflag.SliceValue).GetSlice())
		}
		if !same {
			t.Errorf("--%s: default %s, the configuration's %s", m.flag, f.DefValue, fresh.Value)
		}
	}
	for _, key := range def.Keys() {
		if !obeyed[key] {
			t.Errorf("nothing obeys %s", key)
		}
	}
}

func TestConfigureLayers(t *testing.T) {
	t.Setenv("TILEWIRE_SERVER_HEADER_TIMEOUT_MILLIS", "2000")
	t.Setenv("TILEWIRE_SERVER_MAX_CONNECTIONS", "7")
	t.Setenv("TILEWIRE_WEBSOCKET_ALLOWED_ORIGINS", "same-origin, https://a.example")
	cmd := runCmd()
	if err := cmd.ParseFlags([]string{"--max-connections", "8"}); err != nil {
		t.Fatal(err)
	}
	if _, err := configure(cmd, ""); err != nil {
		t.Fatal(err)
	}
	for flag, want := range map[string]string{
		"max-connections": "8", "header-timeout": "2s", "body-timeout": "10s", "allow-origin": "[https://a.example]",
	} {
		if f := cmd.Flags().Lookup(flag); f.Value.String() != want {
			t.Errorf("--%s is %s, want %s", flag, f.Value, want)
		}
	}
	if !cmd.Flags().Changed("header-timeout") || cmd.Flags().Changed("body-timeout") {
		t.Error("what was set from the environment counts as given, defaults do not")
	}
}
