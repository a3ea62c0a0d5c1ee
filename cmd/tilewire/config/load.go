package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/unix"
)

// ErrConfig: the configuration is not what it must be; the text names the key, the value and what is allowed, and the
// place in the file or the variable that it came from.
var ErrConfig = errors.New("configuration")

// Load returns the defaults with the file at path over them (none if path is empty), the variables of env (os.Environ) over
// that, and flags on top, and which layer each key is of. Values are checked when all is laid over: one that is out of its range
// does no harm below another. Those of flags are checked only together with others, for they have units and checks of their own.
// Errors: ErrConfig, and that of reading the file.
func Load(path string, env []string, flags ...Flag) (c Config, l Layers, err error) {
	c = Default()
	if path != "" {
		text, err := read(path)
		if err != nil {
			return c, l, err
		}
		if err := c.decode(path, text); err != nil {
			return c, l, err
		}
		l.src = source{path, text}
	}
	if l.env, err = c.environ(env); err != nil {
		return c, l, err
	}
	l.lay(&c, flags)
	return c, l, c.check(l)
}

// largest is the most bytes of a file.
const largest = 1 << 20

// read reads a configuration: a file that can be read again at a reload, and whose reading ends.
func read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is no regular file, which a reload could read again", ErrConfig, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, largest+1))
	if err == nil && len(text) > largest {
		err = fmt.Errorf("%s has more than %d bytes", path, largest)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return text, nil
}

// decode lays the file's keys over c. A list of the file replaces the one before.
func (c *Config) decode(path string, text []byte) error {
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	into := *c
	into.Topic = nil
	var unknown *toml.StrictMissingError
	var bad *toml.DecodeError
	src := source{path, text}
	switch err := d.Decode(&into); {
	case errors.As(err, &unknown):
		var lines []string
		for _, e := range unknown.Errors {
			row, col := e.Position()
			key := strings.Join(e.Key(), ".")
			lines = append(lines, src.mark(row, col, len(e.Key()[len(e.Key())-1]), "unknown key "+key+c.near(key)))
		}
		return fmt.Errorf("%w: %s", ErrConfig, strings.Join(lines, "\n"))
	case errors.As(err, &bad):
		row, col := bad.Position()
		return fmt.Errorf("%w: %s", ErrConfig, src.mark(row, col, 1, untyped(bad.Key(), bad.Error())))
	case err != nil:
		return fmt.Errorf("%w: %s: %w", ErrConfig, path, err)
	}
	if into.Topic == nil {
		into.Topic = c.Topic
	}
	for i := range into.Topic { // what a topic does not say is the default topic's
		t := &into.Topic[i]
		if len(c.Topic) > 0 {
			d := c.Topic[0]
			if t.RingSizeMib == 0 {
				t.RingSizeMib = d.RingSizeMib
			}
			if t.RingDepth == 0 {
				t.RingDepth = d.RingDepth
			}
			if t.MaxMessageKib == 0 {
				t.MaxMessageKib = d.MaxMessageKib
			}
			if t.Name == "" && len(into.Topic) == 1 {
				t.Name = d.Name
			}
		}
	}
	*c = into
	return nil
}
