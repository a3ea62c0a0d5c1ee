// Package config is the configuration of an instance: built-in defaults, then a TOML file, then the environment, then flags,
// each over the one before.
//
// A key is a field of Config, with its range in the field's tags; default.toml documents every key and is where the defaults
// come from. Adding a key means a field, a line there, and the place that obeys it; a test holds the first two together.
// What is wrong is told with the key, the value and what is allowed, and for a file with line and caret.
package config
