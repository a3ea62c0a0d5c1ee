package admin

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tilewire/tilewire/cmd/tilewire/config"
	"github.com/tilewire/tilewire/cmd/tilewire/instance"
)

// Every duration of the settings is shown in the unit of a key that is called so.
func TestConfigTextUnits(t *testing.T) {
	var keys []string
	def := config.Default()
	for _, k := range def.Keys() {
		keys = append(keys, k[strings.LastIndexByte(k, '.')+1:])
	}
	var names []string
	var fill func(v reflect.Value)
	fill = func(v reflect.Value) {
		for i := range v.NumField() {
			f := v.Field(i)
			switch {
			case f.Kind() == reflect.Struct:
				fill(f)
			case f.Type() == reflect.TypeFor[time.Duration]():
				f.SetInt(int64(2500 * time.Millisecond))
				name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
				names = append(names, name)
			}
		}
	}
	s := instance.Settings{Drain: &instance.Drain{From: 12345678901234567, Over: 3 * time.Second}}
	fill(reflect.ValueOf(&s).Elem())
	js, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(js, &m); err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	flat("settings", m, func(c ...any) { rows[c[0].(string)] = c[1].(string) })
	for _, name := range names {
		unit := map[bool]string{true: "_seconds", false: "_millis"}[slices.Contains(keys, name+"_seconds")]
		if !slices.Contains(keys, name+unit) {
			t.Errorf("no key is called %s_millis or %s_seconds", name, name)
		}
		want, found := map[string]string{"_seconds": "2.5", "_millis": "2500"}[unit], false
		for key, text := range rows {
			if strings.HasSuffix(key, "."+name+unit) {
				found = true
				if text != want {
					t.Errorf("%s is %s, want %s", key, text, want)
				}
			}
		}
		if !found {
			t.Errorf("%s%s is not shown: %v", name, unit, rows)
		}
	}
	if len(names) < 10 || rows["settings.drain.over_millis"] != "3000" || rows["settings.drain.from"] != "12345678901234568" || rows["settings.limits.keep_alive"] != "false" {
		t.Errorf("%q: %v", names, rows)
	}
}
