package config

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// What package toml says of a value that is none of its key's type.
var (
	mismatch = regexp.MustCompile(`^cannot decode TOML ([a-z ]+) into struct field [A-Za-z.]+\.([A-Za-z]+) of type (.*)$`)
	misplace = regexp.MustCompile(`^cannot store an? (table|array table) in a`)
	overflow = regexp.MustCompile(`integer value (-?[0-9]+) cannot be stored`)
)

// kinds are TOML's types as a person calls them.
var kinds = map[string]string{
	"string": "a string", "integer": "a whole number", "float": "a number with a point or an exponent", "boolean": "true or false", "array": "a list",
	"datetime": "a date", "local datetime": "a date", "local date": "a date", "local time": "a time", "inline table": "a table", "table": "a table", "array table": "a list of tables",
}

// untyped puts into a user's words what package toml says of the value of a key (its parts); other complaints stay as they are.
func untyped(key []string, what string) string {
	what = strings.TrimPrefix(what, "toml: ")
	field, ok := fieldOf(key)
	if !ok {
		return what
	}
	if m := mismatch.FindStringSubmatch(what); m != nil && field.Name != m[2] { // it is in an inline table
		t := field.Type
		if t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return what
		}
		if field, ok = t.FieldByName(m[2]); !ok {
			return what
		}
		key = append(slices.Clone(key), field.Tag.Get("toml"))
	}
	name := strings.Join(key, ".")
	if m := overflow.FindStringSubmatch(what); m != nil {
		if k := field.Type.Kind(); k != reflect.Uint32 && k != reflect.Uint64 { // likewise; which key, the caret shows
			return m[1] + " is out of range"
		}
		return fmt.Sprintf("%s is %s, must be %s", name, m[1], span(field))
	}
	given, element := "", false
	if m := mismatch.FindStringSubmatch(what); m != nil {
		given, element = m[1], field.Type.Kind() == reflect.Slice && m[3] == field.Type.Elem().String()
	} else if m := misplace.FindStringSubmatch(what); m != nil {
		given = m[1]
	} else {
		return what
	}
	is := "not " + kinds[given]
	if element && given != "array" {
		is = "and one of these is " + kinds[given]
	}
	return fmt.Sprintf("%s wants %s, %s", name, wants(name, field.Type), is)
}

// wants is what a key of type t takes.
func wants(name string, t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Struct:
		return "a table ([" + name + "])"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct {
			return "tables ([[" + name + "]])"
		}
		return "a list of strings"
	}
	return "a whole number"
}

// span is what the number f may be.
func span(f reflect.StructField) string {
	top := reflect.New(f.Type).Elem()
	most := uint64(1)<<(f.Type.Bits()-1)<<1 - 1
	top.SetUint(most)
	if want := wrong(f.Tag, top); want != "" {
		return want
	}
	lo, _ := strconv.ParseUint(f.Tag.Get("min"), 10, 64)
	return fmt.Sprintf("%d to %d", lo, most)
}

// fieldOf finds the field of a key, or of a table.
func fieldOf(key []string) (f reflect.StructField, ok bool) {
	t := reflect.TypeFor[Config]()
	for _, part := range key {
		if t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return f, false
		}
		if f, ok = t.FieldByNameFunc(func(name string) bool {
			f, _ := t.FieldByName(name)
			return f.Tag.Get("toml") == part
		}); !ok {
			return f, false
		}
		t = f.Type
	}
	return f, ok
}
