package main

import (
	"github.com/tilewire/tilewire/cmd/tilewire/health"
	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
)

// probes answers /healthz and /readyz of a network tile, for load balancers. It costs the tile no more than ten looks a
// second at the instance, however often they ask.
type probes struct {
	judge *health.Judge
	stage *httpsrv.Stage // of the tile's reply ring, once it has its role
}

func newProbes(in *instance.Instance) (*probes, error) {
	j, err := health.New(in)
	return &probes{judge: j}, err
}

// answer says in one line whether the instance is ready (200: clients are served; 503 from the word to drain on, and
// while a tile is stuck or dead) or live. Which tile, and why, is for operators: strangers may ask here. Without room for the
// line in the reply ring the status says it alone.
func (p *probes) answer(ready bool) httpsrv.Response {
	v := p.judge.Ask(shmem.Monotonic())
	r := httpsrv.Response{ContentType: "text/plain; charset=utf-8", CacheControl: "no-store"}
	yes, word := v.Live, "live"
	if ready {
		yes, word = v.Ready, "ready"
	}
	if yes {
		_, _ = p.stage.WriteString(word)
	} else {
		r.Status, r.RetryAfter = 503, 1
		_, _ = p.stage.WriteString("not ")
		_, _ = p.stage.WriteString(word)
		if w := v.Word(); w == "unready" {
			_, _ = p.stage.WriteString(": a tile is stuck, or is being started again")
		} else {
			_, _ = p.stage.WriteString(": the instance is ")
			_, _ = p.stage.WriteString(w)
		}
	}
	_, _ = p.stage.WriteString("\n")
	_ = p.stage.Body(&r)
	return r
}
