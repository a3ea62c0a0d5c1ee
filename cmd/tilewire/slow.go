package main

import (
	"log/slog"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
)

// slowReasons are why clients are closed that could not keep up.
var slowReasons = []httpsrv.CloseReason{httpsrv.CloseWsClientTooSlow, httpsrv.CloseTooSlow, httpsrv.CloseEvicted, httpsrv.CloseNoPong}

// slowest counts clients that were closed since they were too slow, by network tile and reason, so that they are told of once a
// second, and not one by one.
type slowest map[int][]uint64

// each calls f with how many there were since the last call, for each network tile and reason of which there were any.
func (s slowest) each(in *instance.Instance, f func(id int, why httpsrv.CloseReason, n uint64)) {
	for id := range int(in.Server.Params().TileCnt) {
		c, err := in.Server.Counters(id)
		if err != nil {
			continue
		}
		if s[id] == nil {
			s[id] = make([]uint64, len(slowReasons))
		}
		for i, why := range slowReasons {
			n := c.Lookup("closed_" + why.Name()).Load()
			if more := n - s[id][i]; more != 0 {
				f(id, why, more)
			}
			s[id][i] = n
		}
	}
}

// tell logs them.
func (s slowest) tell(in *instance.Instance, log *slog.Logger) {
	s.each(in, func(id int, why httpsrv.CloseReason, n uint64) {
		log.Warn("clients evicted", "tile", instance.Tile{Kind: kindNet, ID: id}.String(), "clients", n, "reason", why.String())
	})
}
