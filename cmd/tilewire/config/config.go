package config

import (
	_ "embed"
	"fmt"
	"reflect"
)

// DefaultFile is the built-in configuration with every key explained, in TOML.
//
//go:embed default.toml
var DefaultFile string

// Config is what an instance is told. Tags: the key's name, and what a value must be: min and max of a number, pow2,
// oneof (words), some (a list with at least one entry). Units are in the names.
type Config struct {
	Name        string      `toml:"name"`
	User        string      `toml:"user"`
	Log         Log         `toml:"log"`
	Layout      Layout      `toml:"layout"`
	Memory      Memory      `toml:"memory"`
	Topic       []Topic     `toml:"topic"`
	Server      Server      `toml:"server"`
	Websocket   Websocket   `toml:"websocket"`
	SlowClient  SlowClient  `toml:"slow_client"`
	Steering    Steering    `toml:"steering"`
	Shutdown    Shutdown    `toml:"shutdown"`
	Supervisor  Supervisor  `toml:"supervisor"`
	Admin       Admin       `toml:"admin"`
	Development Development `toml:"development"`
}

// Log is what is logged, and how.
type Log struct {
	Level  string `toml:"level" oneof:"debug info warn error"`
	Format string `toml:"format" oneof:"auto text json"`
}

// Layout is which tiles there are, and where they run.
type Layout struct {
	Affinity     string `toml:"affinity"`
	NetTileCount uint32 `toml:"net_tile_count" min:"1" max:"64"`
	NetTileMax   uint32 `toml:"net_tile_max" max:"64"`
}

// Memory is what the region lies on.
type Memory struct {
	Backing     string `toml:"backing" oneof:"auto hugetlbfs shm"`
	MaxPageSize string `toml:"max_page_size" oneof:"normal huge gigantic"`
	Numa        string `toml:"numa"`
}

// Topic is one ring.
type Topic struct {
	Name        string `toml:"name"`
	RingSizeMib uint64 `toml:"ring_size_mib" min:"1" max:"524288" pow2:"yes"`
	RingDepth   uint64 `toml:"ring_depth" min:"1024" max:"4294967296" pow2:"yes"`

	MaxMessageKib uint64 `toml:"max_message_kib" min:"1" max:"536870912"`
	History       uint32 `toml:"history"`
}

// Server is what the network tiles take in.
type Server struct {
	Listen              []string `toml:"listen" some:"yes"`
	MaxConnections      uint32   `toml:"max_connections" min:"1" max:"1048576"`
	MaxConnectionsPerIP uint32   `toml:"max_connections_per_ip" max:"16777216"`
	AcceptRatePerSecond uint32   `toml:"accept_rate_per_second" max:"1000000000"`
	MaxRequestBytes     uint32   `toml:"max_request_bytes" min:"1024" max:"1073741824"`
	OnFull              string   `toml:"on_full" oneof:"refuse evict"`
	HeaderTimeoutMillis uint32   `toml:"header_timeout_millis" min:"100" max:"86400000"`
	BodyTimeoutMillis   uint32   `toml:"body_timeout_millis" min:"100" max:"86400000"`
	IdleTimeoutMillis   uint32   `toml:"idle_timeout_millis" min:"100" max:"86400000"`
	KeepAlive           bool     `toml:"keep_alive"`
	ProxyProtocol       string   `toml:"proxy_protocol" oneof:"off v1 v2 any"`
	TrustedProxies      []string `toml:"trusted_proxies"`
}

// Websocket is what is asked of WebSocket clients.
type Websocket struct {
	AllowedOrigins      []string `toml:"allowed_origins"`
	MaxClientFrameBytes uint32   `toml:"max_client_frame_bytes" min:"1024" max:"1073741824"`
	PingIntervalSeconds uint32   `toml:"ping_interval_seconds" max:"86400"`
	PongTimeoutSeconds  uint32   `toml:"pong_timeout_seconds" min:"1" max:"86400"`
}

// SlowClient is when a client is too slow, and what happens to it then.
type SlowClient struct {
	Policy             string `toml:"policy" oneof:"evict skip"`
	MaxLagMessages     uint64 `toml:"max_lag_messages" max:"4294967296"`
	MaxLagBytes        uint64 `toml:"max_lag_bytes"`
	MaxLagSeconds      uint32 `toml:"max_lag_seconds" max:"86400"`
	WriteTimeoutMillis uint32 `toml:"write_timeout_millis" min:"100" max:"86400000"`
}

// Steering is which network tile gets a new connection.
type Steering struct {
	Mode string `toml:"mode" oneof:"auto off hash least cpu source"`
}

// Shutdown is how long clients are given to go.
type Shutdown struct {
	GraceMillis    uint32 `toml:"grace_millis" max:"86400000"`
	DrainMillis    uint32 `toml:"drain_millis" max:"86400000"`
	LameDuckMillis uint32 `toml:"lame_duck_millis" max:"86400000"`
	LingerMillis   uint32 `toml:"linger_millis" max:"86400000"`
}

// Supervisor is how tiles are kept up.
type Supervisor struct {
	Restart                string `toml:"restart" oneof:"tile never"`
	HeartbeatTimeoutMillis uint32 `toml:"heartbeat_timeout_millis" min:"100" max:"86400000"`

	RestartMaxPerMinute uint32 `toml:"restart_max_per_minute" max:"1000"`
}

// Admin is where operators' questions are answered.
type Admin struct {
	Listen string `toml:"listen"`
}

// Development is what only those who work on Tilewire itself change.
type Development struct {
	Sandbox bool `toml:"sandbox"`
}

// Default returns the built-in configuration.
func Default() Config {
	var c Config
	if err := c.decode("default.toml", []byte(DefaultFile)); err != nil {
		panic(fmt.Sprint("config: built-in defaults: ", err)) // a test reads them
	}
	return c
}

// each calls f for every key of c, with its dotted name (`server.listen`, `topic[0].name`) and field.
func (c *Config) each(f func(key string, field reflect.StructField, v reflect.Value) error) error {
	return walk("", reflect.ValueOf(c).Elem(), f)
}

func walk(prefix string, v reflect.Value, f func(string, reflect.StructField, reflect.Value) error) error {
	for i := range v.NumField() {
		field, v := v.Type().Field(i), v.Field(i)
		key := prefix + field.Tag.Get("toml")
		var err error
		switch {
		case v.Kind() == reflect.Struct:
			err = walk(key+".", v, f)
		case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
			for i := range v.Len() {
				if err = walk(fmt.Sprintf("%s[%d].", key, i), v.Index(i), f); err != nil {
					break
				}
			}
		default:
			err = f(key, field, v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
