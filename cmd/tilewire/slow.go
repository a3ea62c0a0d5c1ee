package main

import (
	"fmt"
	"log/slog"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
)

// slowReasons are why clients are closed that could not keep up.
var slowReasons = []httpsrv.CloseReason{httpsrv.CloseWsClientTooSlow, httpsrv.CloseTooSlow, httpsrv.CloseEvicted, httpsrv.CloseNoPong}

// slowest knows what was told last of clients that were too slow, by network tile and counter, so that they are told of once a
// second, and not one by one.
type slowest map[string]uint64

// newSlowest knows of those there were so far, of whom nobody is told.
func newSlowest(in *instance.Instance) slowest {
	s := slowest{}
	s.each(in, func(int, httpsrv.CloseReason, uint64) {}, func(int, uint64, uint64) {})
	return s
}

// more gives how much a tile's counter has grown since the last call.
func (s slowest) more(in *instance.Instance, id int, name string) uint64 {
	c, err := in.Server.Counters(id)
	if err != nil {
		return 0
	}
	key := fmt.Sprint(id, name)
	n := c.Lookup(name).Load()
	more := n - s[key]
	s[key] = n
	return more
}

// each calls evicted with how many were closed since the last call, for each network tile and reason of which there were any, and
// skipped with how many times clients of a tile have skipped, and how many messages they missed.
func (s slowest) each(in *instance.Instance, evicted func(id int, why httpsrv.CloseReason, n uint64), skipped func(id int, times, missed uint64)) {
	for id := range int(in.Server.Params().TileCnt) {
		for _, why := range slowReasons {
			if n := s.more(in, id, "closed_"+why.Name()); n != 0 {
				evicted(id, why, n)
			}
		}
		if n := s.more(in, id, "skips"); n != 0 {
			skipped(id, n, s.more(in, id, "skipped_messages"))
		}
	}
}

// tell logs them.
func (s slowest) tell(in *instance.Instance, log *slog.Logger) {
	name := func(id int) string { return instance.Tile{Kind: kindNet, ID: id}.String() }
	s.each(in, func(id int, why httpsrv.CloseReason, n uint64) {
		log.Warn("clients evicted", "tile", name(id), "clients", n, "reason", why.String())
	}, func(id int, times, missed uint64) {
		log.Warn("clients skipped ahead", "tile", name(id), "times", times, "messages_missed", missed)
	})
}
