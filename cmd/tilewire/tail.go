package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
)

// tailEvery is how often the ring is looked at: a reader without a role has no bell that anybody rings.
const tailEvery = 10 * time.Millisecond

func tailCmd() *cobra.Command {
	var name, topic string
	var since, last uint64
	var once, asJSON bool
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print what is published, straight from shared memory: no client of any tile, and nobody waits for it",
		Long: `Print the messages of a topic, one a line, as they are published. They are read from shared
memory, without a tile; whoever reads too slowly is told how many messages are lost, and goes on.`,
		Example: `  tilewire tail --last 10
  tilewire tail --topic news --since 4711 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in, ring, err := joinTopic(name, topic, shmem.ReadOnly)
			if err != nil {
				return err
			}
			defer in.Leave()
			var f *httpsrv.Follower
			if cmd.Flags().Changed("since") {
				f, err = in.Server.FollowFrom(ring, httpsrv.Seq(since))
			} else {
				f, err = in.Server.FollowLast(ring, last)
			}
			if err != nil {
				return err
			}
			ctx, cancel := stopOnSignal()
			defer cancel()
			return tail(ctx, in, f, once, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "instance; the only one that runs if left out")
	f.StringVar(&topic, "topic", "", "topic; the instance's first if left out")
	f.Uint64Var(&since, "since", 0, "begin with message `SEQ`, or the oldest that is left")
	f.Uint64Var(&last, "last", 0, "begin with the last `N` messages")
	f.BoolVar(&once, "once", false, "end when all that is there is printed")
	f.BoolVar(&asJSON, "json", false, `a line of JSON each: seq, age_ns, and data, or base64 for a binary message; {"lost": n} where messages are gone`)
	cmd.MarkFlagsMutuallyExclusive("since", "last")
	return cmd
}

// tailed is a line of --json.
type tailed struct {
	Seq    uint64  `json:"seq,omitempty"`
	AgeNs  int64   `json:"age_ns,omitempty"` // since it was published
	Data   *string `json:"data,omitempty"`
	Base64 []byte  `json:"base64,omitempty"`
	Lost   uint64  `json:"lost,omitempty"`
}

// tail prints what there is, and what comes until ctx or the instance ends.
func tail(ctx context.Context, in *instance.Instance, f *httpsrv.Follower, once, asJSON bool) error {
	out := bufio.NewWriter(os.Stdout)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	tick := time.NewTicker(tailEvery)
	defer tick.Stop()
	for {
		m, lost, ok := f.Next()
		if lost > 0 && asJSON {
			_ = enc.Encode(tailed{Lost: lost})
		} else if lost > 0 {
			_ = out.Flush()
			fmt.Fprintf(os.Stderr, "tail: %d messages are lost\n", lost)
		}
		switch {
		case ok && asJSON:
			l := tailed{Seq: uint64(m.Seq), AgeNs: shmem.Monotonic() - m.Time}
			if m.Op == httpsrv.OpText {
				s := string(m.Data)
				l.Data = &s
			} else {
				l.Base64 = m.Data
			}
			_ = enc.Encode(l)
			continue
		case ok:
			_, _ = out.Write(m.Data)
			_ = out.WriteByte('\n')
			continue
		}
		if err := out.Flush(); err != nil { // nobody reads any more
			return err
		}
		if once || in.Ended() {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
