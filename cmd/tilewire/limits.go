package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
)

// limits are what clients are held to, as flags; docs/hostile.md explains each.
type limits struct{ instance.Limits }

// flags declares them on pipe and run.
func (l *limits) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&l.PerIP, "max-connections-per-ip", 0, "connections of one address (IPv6: of a /64); those beyond get 429; 0: no limit")
	f.IntVar(&l.AcceptRate, "accept-rate", 0, "connections accepted `PER-SECOND`; those beyond wait in the backlog; 0: no limit")
	f.StringVar(&l.OnFull, "on-full", "refuse", "when all places are taken: `refuse` the newcomer (503), or evict the slowest client")
	f.StringArrayVar(&l.AllowOrigins, "allow-origin", nil, "`ORIGIN` (https://app.example) whose pages may open WebSockets, besides this server's own; * for all; repeatable")
	f.DurationVar(&l.Header, "header-timeout", 10*time.Second, "from accept to a request's whole head")
	f.DurationVar(&l.Body, "body-timeout", 10*time.Second, "for the next bytes of a request's body; the whole has a second more for each KiB")
	f.BoolVar(&l.KeepAlive, "keep-alive", false, "answer several requests a connection, also pipelined ones")
	f.DurationVar(&l.Idle, "idle-timeout", time.Minute, "with --keep-alive, from a response to the next request")
	f.StringVar(&l.OnLag, "on-lag", "evict", "`evict` a client that is too far behind (4001), or have it skip to the last message")
	f.Uint64Var(&l.MaxLagBytes, "max-lag-bytes", 0, "how far behind the ring is too far; 0: as far as it reaches")
	f.DurationVar(&l.MaxLag, "max-lag", 0, "how old what a client has yet to get may be; 0: no limit")
	f.DurationVar(&l.Write, "write-timeout", 10*time.Second, "close a client that takes none of the bytes that wait for it for so long")
	f.DurationVar(&l.PingInterval, "ping-interval", 25*time.Second, "from one ping to a WebSocket to the next; 0: no pings")
	f.StringVar(&l.ProxyProtocol, "proxy-protocol", "off", "header that a trusted proxy puts before a connection's first request: v1, v2, any, or `off`")
	f.StringArrayVar(&l.TrustedProxies, "trusted-proxy", nil, "`ADDRESS` or network (10.0.0.0/8) of proxies, or unix, whose headers tell the client's address; repeatable")
	f.DurationVar(&l.PongTimeout, "pong-timeout", 10*time.Second, "close a WebSocket (4002) whose pong does not come within so long")
}

// excludes has them refused together with flag: where no tile is started they would mean nothing.
func (l *limits) excludes(cmd *cobra.Command, flag string) {
	own := new(cobra.Command)
	new(limits).flags(own)
	own.Flags().VisitAll(func(f *pflag.Flag) { cmd.MarkFlagsMutuallyExclusive(flag, f.Name) })
}

// options puts them into o, and says what is wrong with them.
func (l *limits) options(o *httpsrv.TileOptions) error {
	var err error
	if o.OnFull, err = httpsrv.ParseOnFull(l.OnFull); err != nil {
		return usageError{fmt.Errorf("--on-full %q: one of refuse, evict", l.OnFull)}
	}
	if o.OnLag, err = httpsrv.ParseOnLag(l.OnLag); err != nil {
		return usageError{fmt.Errorf("--on-lag %q: one of evict, skip", l.OnLag)}
	}
	if o.ProxyProtocol, err = httpsrv.ParseProxyProtocol(l.ProxyProtocol); err != nil {
		return usageError{fmt.Errorf("--proxy-protocol %q: one of off, v1, v2, any", l.ProxyProtocol)}
	}
	if o.TrustedProxies = l.TrustedProxies; o.ProxyProtocol != httpsrv.ProxyOff && len(l.TrustedProxies) == 0 {
		return usageError{fmt.Errorf("--proxy-protocol %s needs the proxies' addresses: --trusted-proxy 127.0.0.1, for example", l.ProxyProtocol)}
	}
	if err := httpsrv.CheckProxies(o.ProxyProtocol, o.TrustedProxies); err != nil {
		return usageError{fmt.Errorf("--trusted-proxy: %w", err)}
	}
	for _, n := range []struct {
		flag string
		v    int
		top  int
		to   *int
	}{{"max-connections-per-ip", l.PerIP, 1 << 24, &o.MaxConnectionsPerIP}, {"accept-rate", l.AcceptRate, 1e9, &o.AcceptRate}} {
		if n.v < 0 || n.v > n.top {
			return usageError{fmt.Errorf("--%s %d: 0 (no limit) to %d", n.flag, n.v, n.top)}
		}
		*n.to = n.v
	}
	for _, d := range []struct {
		flag string
		v    time.Duration
		to   *time.Duration
	}{
		{"header-timeout", l.Header, &o.RequestTimeout}, {"body-timeout", l.Body, &o.BodyTimeout}, {"write-timeout", l.Write, &o.WriteTimeout},
		{"ping-interval", l.PingInterval, &o.PingInterval}, {"pong-timeout", l.PongTimeout, &o.PongTimeout},
		{"idle-timeout", l.Idle, &o.IdleTimeout}, {"max-lag", l.MaxLag, &o.MaxLag},
	} {
		switch {
		case d.flag == "ping-interval" && d.v == 0:
			d.v = -1
		case d.flag == "max-lag" && d.v == 0:
		case d.v < 100*time.Millisecond || d.v > 24*time.Hour:
			return usageError{fmt.Errorf("--%s %v: 100ms to 24h", d.flag, d.v)}
		}
		*d.to = d.v
	}
	for _, a := range l.AllowOrigins {
		if err := httpsrv.CheckOrigins([]string{a}); err != nil {
			return usageError{fmt.Errorf("--allow-origin %q: want SCHEME://HOST or SCHEME://HOST:PORT without a path, or *", a)}
		}
	}
	o.AllowOrigins, o.KeepAlive, o.MaxLagBytes = l.AllowOrigins, l.KeepAlive, l.MaxLagBytes
	return nil
}

// check is options for those who only hand them on.
func (l *limits) check() error { return l.options(new(httpsrv.TileOptions)) }

// settings are what the tiles are told.
func (l *limits) settings() instance.Settings {
	return instance.Settings{Limits: l.Limits, HeartbeatTimeout: heartbeatTimeout, RestartMax: defaultBudget}
}

// defaultLimits are those without any flag.
func defaultLimits() *limits {
	l := new(limits)
	l.flags(new(cobra.Command))
	return l
}

// checkClients bounds --max-connections, as far as a person may mean it.
func checkClients(n uint32) error {
	if n < 1 || n > 1<<20 {
		return usageError{fmt.Errorf("--max-connections %d: 1 to %d", n, 1<<20)}
	}
	return nil
}
