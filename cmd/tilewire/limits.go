package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/httpsrv"
)

// limits are what clients are held to; docs/hostile.md explains each. The zero
// values of durations stand for httpsrv's defaults, which the flags show.
type limits struct {
	perIP  int
	rate   int
	onFull string
	origin []string

	keepAlive bool
	lagBytes  uint64

	header, body, idle, write, pingInterval, pongTimeout, lag time.Duration
}

// flags declares them on pipe and run, and on the tile that they start.
func (l *limits) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&l.perIP, "max-connections-per-ip", 0, "connections of one address (IPv6: of a /64); those beyond get 429; 0: no limit")
	f.IntVar(&l.rate, "accept-rate", 0, "connections accepted `PER-SECOND`; those beyond wait in the backlog; 0: no limit")
	f.StringVar(&l.onFull, "on-full", "refuse", "when all places are taken: `refuse` the newcomer (503), or evict the slowest client")
	f.StringArrayVar(&l.origin, "allow-origin", nil, "`ORIGIN` (https://app.example) whose pages may open WebSockets, besides this server's own; * for all; repeatable")
	f.DurationVar(&l.header, "header-timeout", 10*time.Second, "from accept to a request's whole head")
	f.DurationVar(&l.body, "body-timeout", 10*time.Second, "for the next bytes of a request's body; the whole has a second more for each KiB")
	f.BoolVar(&l.keepAlive, "keep-alive", false, "answer several requests a connection, also pipelined ones")
	f.DurationVar(&l.idle, "idle-timeout", time.Minute, "with --keep-alive, from a response to the next request")
	f.Uint64Var(&l.lagBytes, "max-lag-bytes", 0, "evict a client that is further behind the ring; 0: as far as it reaches")
	f.DurationVar(&l.lag, "max-lag", 0, "evict a client that is further behind; 0: no limit")
	f.DurationVar(&l.write, "write-timeout", 10*time.Second, "close a client that takes none of the bytes that wait for it for so long")
	f.DurationVar(&l.pingInterval, "ping-interval", 25*time.Second, "from one ping to a WebSocket to the next; 0: no pings")
	f.DurationVar(&l.pongTimeout, "pong-timeout", 10*time.Second, "close a WebSocket (4002) whose pong does not come within so long")
}

// excludes has them refused together with flag: where no tile is started they would mean nothing.
func (l *limits) excludes(cmd *cobra.Command, flag string) {
	for _, a := range (&limits{origin: []string{"*"}}).args() {
		name, _, _ := strings.Cut(a[len("--"):], "=")
		cmd.MarkFlagsMutuallyExclusive(flag, name)
	}
}

// options puts them into o, and says what is wrong with them.
func (l *limits) options(o *httpsrv.TileOptions) error {
	var err error
	if o.OnFull, err = httpsrv.ParseOnFull(l.onFull); err != nil {
		return usageError{fmt.Errorf("--on-full %q: one of refuse, evict", l.onFull)}
	}
	for _, n := range []struct {
		flag string
		v    int
		top  int
		to   *int
	}{{"max-connections-per-ip", l.perIP, 1 << 24, &o.MaxConnectionsPerIP}, {"accept-rate", l.rate, 1e9, &o.AcceptRate}} {
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
		{"header-timeout", l.header, &o.RequestTimeout}, {"body-timeout", l.body, &o.BodyTimeout}, {"write-timeout", l.write, &o.WriteTimeout},
		{"ping-interval", l.pingInterval, &o.PingInterval}, {"pong-timeout", l.pongTimeout, &o.PongTimeout},
		{"idle-timeout", l.idle, &o.IdleTimeout}, {"max-lag", l.lag, &o.MaxLag},
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
	for _, a := range l.origin {
		if err := httpsrv.CheckOrigins([]string{a}); err != nil {
			return usageError{fmt.Errorf("--allow-origin %q: want SCHEME://HOST or SCHEME://HOST:PORT without a path, or *", a)}
		}
	}
	o.AllowOrigins, o.KeepAlive, o.MaxLagBytes = l.origin, l.keepAlive, l.lagBytes
	return nil
}

// check is options for those who only hand them on.
func (l *limits) check() error { return l.options(new(httpsrv.TileOptions)) }

// args are the flags as the network tile's process is given them.
func (l *limits) args() []string {
	args := []string{
		"--max-connections-per-ip=" + strconv.Itoa(l.perIP), "--accept-rate=" + strconv.Itoa(l.rate), "--on-full=" + l.onFull,
		"--header-timeout=" + l.header.String(), "--body-timeout=" + l.body.String(), "--write-timeout=" + l.write.String(),
		"--ping-interval=" + l.pingInterval.String(), "--pong-timeout=" + l.pongTimeout.String(),
		"--keep-alive=" + strconv.FormatBool(l.keepAlive), "--idle-timeout=" + l.idle.String(),
		"--max-lag-bytes=" + strconv.FormatUint(l.lagBytes, 10), "--max-lag=" + l.lag.String(),
	}
	for _, o := range l.origin {
		args = append(args, "--allow-origin="+o)
	}
	return args
}

// defaultLimits are those without any flag.
func defaultLimits() (l limits) {
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
