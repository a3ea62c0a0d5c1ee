package admin

import (
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/tilewire/tilewire/shmem"
)

// Ring is a row of /ringz. Sequence numbers are those of messages; the tail is the oldest that is still there.
type Ring struct {
	Ring             int     `json:"ring"`
	Topic            string  `json:"topic"`
	Epoch            string  `json:"epoch"` // hex: other than that of a ring formatted anew
	Head             uint64  `json:"head"`  // sequence number of the last message
	Tail             uint64  `json:"tail"`  // head+1 when nothing is there
	HeldMessages     uint64  `json:"held_messages"`
	HeldSeconds      float64 `json:"held_seconds"` // since the oldest was published
	CapacityBytes    uint64  `json:"capacity_bytes"`
	CapacityMessages uint64  `json:"capacity_messages"`
	Published        uint64  `json:"published_messages"`
	PublishedBytes   uint64  `json:"published_bytes"`
	SilentSeconds    float64 `json:"silent_seconds"` // since the last message, 0: none yet
	ProducerHeld     bool    `json:"producer_held"`
	ProducerPid      int     `json:"producer_pid"` // 0: none, or not told
	ProducerWaits    uint64  `json:"producer_waits"`
	TooLarge         uint64  `json:"refused_too_large"`
	Busy             uint64  `json:"refused_busy"`
}

func (s *Server) rings() []Ring {
	srv := s.in.Server
	rows := []Ring{}
	for i := range int(srv.Params().RingCnt) {
		st := srv.Ring(i)
		tail, since := srv.RingTail(i)
		pid, held := srv.Producer(i)
		row := Ring{
			Ring: i, Topic: s.in.Info.TopicOf(i), Epoch: fmt.Sprintf("%016x", st.Epoch), Head: uint64(st.Head), Tail: uint64(tail),
			HeldMessages: uint64(max(st.Head.Diff(tail)+1, 0)), HeldSeconds: sinceMono(since),
			CapacityBytes: st.BufferSz, CapacityMessages: st.Depth, Published: uint64(st.Head.Diff(st.Start)), PublishedBytes: st.Bytes,
			SilentSeconds: sinceMono(st.LastPubAt), ProducerHeld: held, ProducerPid: pid, ProducerWaits: st.Waits, TooLarge: st.TooLarge, Busy: st.Busy,
		}
		rows = append(rows, row)
	}
	return rows
}

func (s *Server) ringz(w http.ResponseWriter, r *http.Request) {
	rows := s.rings()
	answer(w, r, http.StatusOK, map[string]any{"rings": rows}, func(w io.Writer) {
		table(w, func(row func(...any)) {
			row("topic", "head", "tail", "held", "for", "capacity", "published", "silent", "producer")
			for _, g := range rows {
				who := "none"
				if g.ProducerHeld {
					who = strconv.Itoa(g.ProducerPid)
				}
				row(g.Topic, g.Head, g.Tail, g.HeldMessages, short(g.HeldSeconds), fmt.Sprintf("%d MiB", shmem.Align(g.CapacityBytes, 1<<20)>>20),
					g.Published, short(g.SilentSeconds), who)
			}
		})
	})
}
