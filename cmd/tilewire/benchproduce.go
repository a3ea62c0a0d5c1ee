package main

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/cmd/tilewire/swarm"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
	"github.com/tilewire/tilewire/tile/sandbox"
)

// benchProducer publishes all that its credits allow in one burst, so that the network tile can send it in one go,
// and sleeps until there are more. With a rate it sleeps until the next message is due.
type benchProducer struct {
	*benchServe
	st       *httpsrv.Stage
	ep, fifo int
	timer    int
	events   [4]unix.EpollEvent
	buf      []byte
	template []byte
	seq      uint64
	limit    uint64 // highest seq that credits allow
	begin    int64  // of publishing at a rate; 0: not yet
	hist     swarm.Histogram
}

// produce is the producer's process.
func (b *benchServe) produce(a tileArgs) error {
	in, cnc, err := a.enter(kindTicker)
	if err != nil {
		return err
	}
	cells, err := benchCells(in, instance.Tile{Kind: kindTicker})
	if err != nil {
		return err
	}
	p := &benchProducer{benchServe: b, buf: make([]byte, 4096), template: make([]byte, b.size)}
	swarm.FillPayload(p.template, 0, 0)
	if p.st, err = in.Server.Produce(0, publishBound); err != nil {
		return err
	}
	defer p.st.Close()
	if err := p.open(); err != nil {
		return err
	}
	w := heapWatch{cells: cells}
	// It never spins: on the benchmark's one CPU it would only keep the tile from its work.
	loop := tile.Loop{Cnc: cnc, CPU: a.cpu, KeepOff: a.cpu != tile.Float, Spin: 1}
	a.confine(&loop, func() []sandbox.Rule {
		return append(sandbox.ProducerCalls(), sandbox.Rule{Nr: unix.SYS_TIMERFD_SETTIME})
	})
	loop.Housekeep = func(now int64) {
		if p.seq > 0 {
			w.look(now)
			cells.Cell(cellP50).Set(p.hist.Quantile(.5))
			cells.Cell(cellP99).Set(p.hist.Quantile(.99))
		}
	}
	loop.Poll = func(_ int64, timeoutMs int) int {
		work, err := p.poll(timeoutMs)
		if err != nil {
			loop.Stop(err)
		}
		return work
	}
	return loop.Run()
}

// open makes what the producer sleeps in: an epoll over the FIFO and a timer.
func (p *benchProducer) open() (err error) {
	if p.fifo, err = unix.Open(p.credits, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil { // read-write: it never ends
		return fmt.Errorf("%s: %w", p.credits, err)
	}
	if p.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return fmt.Errorf("timerfd: %w", err)
	}
	if p.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	for _, fd := range []int{p.fifo, p.timer} {
		if err := unix.EpollCtl(p.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
	}
	return nil
}

// poll waits for credits or the timer, and publishes. The wait is raw: this process allocates nothing, so that nobody
// stops its world, and the others of the benchmark wait like that too.
func (p *benchProducer) poll(timeoutMs int) (work int, err error) {
	n, _ := shmem.EpollWaitRaw(p.ep, p.events[:], timeoutMs) // an error is EINTR: nothing yet
	for i := range n {
		k, err := unix.Read(int(p.events[i].Fd), p.buf)
		if err != nil || k < 8 || int(p.events[i].Fd) != p.fifo {
			continue // the timer, only to silence it
		}
		p.limit = max(p.limit, binary.LittleEndian.Uint64(p.buf[k-8:]))
		if p.rate > 0 && p.begin == 0 {
			p.begin = shmem.Monotonic()
			ns := max(int64(1e9*float64(p.burst)/p.rate), 200_000)
			it := unix.ItimerSpec{Interval: unix.NsecToTimespec(ns), Value: unix.NsecToTimespec(1)}
			if err := unix.TimerfdSettime(p.timer, 0, &it, nil); err != nil {
				return 0, fmt.Errorf("timerfd: %w", err)
			}
		}
	}
	if n == 0 {
		return 0, nil
	}
	to := p.limit
	if p.rate > 0 {
		if p.begin == 0 {
			return 0, nil
		}
		burst := uint64(p.burst)
		to = (uint64(float64(shmem.Monotonic()-p.begin)*1e-9*p.rate)/burst + 1) * burst
	}
	return n, p.publish(to)
}

func (p *benchProducer) publish(to uint64) error {
	p.st.Cork() // one wake-up for the whole burst
	defer p.st.Uncork()
	for last := int64(0); p.seq < to; {
		b := p.st.Append(p.size)
		if b == nil {
			return p.st.Err()
		}
		p.seq++
		now := shmem.Monotonic()
		if last != 0 {
			p.hist.Record(now - last) // a whole message: staged, stamped, published
		}
		last = now
		if p.rate > 0 { // when it was due: to be late does not make latencies look better
			now = p.begin + int64(float64((p.seq-1)/uint64(p.burst)*uint64(p.burst))/p.rate*1e9)
		}
		if p.fill {
			swarm.FillPayload(b, p.seq, now)
		} else {
			copy(b, p.template)
			swarm.Stamp(b, p.seq, now)
		}
		p.st.Commit(p.size)
		if _, err := p.st.WsBroadcast(httpsrv.OpBinary); err != nil {
			return err
		}
	}
	return nil
}
