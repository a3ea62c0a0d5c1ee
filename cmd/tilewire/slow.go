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

// tell logs those of the time since the last call; log nil: only counts them.
func (s slowest) tell(in *instance.Instance, log *slog.Logger) {
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
			if more := n - s[id][i]; more != 0 && log != nil {
				log.Warn("clients evicted", "tile", instance.Tile{Kind: kindNet, ID: id}.String(), "clients", more, "reason", why.String())
			}
			s[id][i] = n
		}
	}
}
