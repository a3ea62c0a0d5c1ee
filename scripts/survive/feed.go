package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/tilewire/tilewire/cmd/tilewire/swarm"
	"github.com/tilewire/tilewire/shmem"
)

// runFeed writes numbered, verifiable messages in len32 frames until the reader is gone.
func runFeed(spec string, out io.Writer) error {
	var rate, size int
	if _, err := fmt.Sscanf(spec, "%d:%d", &rate, &size); err != nil || rate < 1 || size < swarm.PrefixSz {
		return fmt.Errorf("%q: RATE:SIZE, of 1 and %d or more", spec, swarm.PrefixSz)
	}
	w := bufio.NewWriterSize(out, 64<<10)
	b := make([]byte, 4+size)
	binary.BigEndian.PutUint32(b, uint32(size))
	tick := time.NewTicker(max(time.Second/time.Duration(rate), time.Millisecond))
	defer tick.Stop()
	begin, seq := time.Now(), uint64(0)
	for range tick.C {
		for due := uint64(time.Since(begin).Seconds() * float64(rate)); seq < due; {
			seq++
			swarm.FillPayload(b[4:], seq, shmem.Monotonic())
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}
