package config

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

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
		switch {
		case errors.Is(err, strconv.ErrRange):
			return fmt.Errorf("is %d at most", uint64(1)<<v.Type().Bits()-1)
		case err != nil:
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
