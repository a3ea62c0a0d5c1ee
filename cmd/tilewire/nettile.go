package main

import (
	"fmt"
	"hash/crc32"
	"log/slog"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/cmd/tilewire/page"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/httpsrv/steer"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
	"github.com/tilewire/tilewire/tile/keeper"
	"github.com/tilewire/tilewire/tile/sandbox"
)

// netTile is a network tile's process: one loop over Poll.
type netTile struct {
	*httpsrv.NetTile
	name  string // kind:id
	id    int
	life  *instance.Life
	o     httpsrv.TileOptions
	gen   uint64          // of the settings that it has
	drain *instance.Drain // that it obeys
	stays *instance.Drain // that it will obey: until then it takes nobody new in
	until int64           // when it ends, whoever is left; 0: it serves
	log   *slog.Logger
	kept  bool // a keeper holds what it has open: its successor carries on
}

func runNetTile(a tileArgs, fds []int, steering int, history []uint) (err error) {
	in, cnc, err := a.enter(kindNet)
	if err != nil {
		return err
	}
	defer failed(cnc, &err)
	dieAtMoment()
	// By its hash: the program that this one replaces may have another page.
	home, err := in.Server.AddStatic(fmt.Sprintf("page-%08x", crc32.ChecksumIEEE(page.HTML)), page.HTML)
	if err != nil {
		return err
	}
	topics := in.Info.Topics
	for i := range min(len(history), len(topics)) {
		topics[i].History = uint32(history[i])
	}
	probe, err := newProbes(in)
	if err != nil {
		return err
	}
	n := &netTile{name: cnc.Name(), id: a.id, life: in.Life(), log: logger(), o: httpsrv.TileOptions{
		BellPath: in.Bell(a.id), SndBuf: sndBuf, Callbacks: httpsrv.Callbacks{Request: routes(home, topics, probe)},
	}}
	n.o.OnRefusedOrigin = newRefusedOrigins(n.log).refused
	n.o.Survive = keeper.Wanted()
	if steering >= 0 { // left open, for the successor
		if n.o.Steering, err = steer.Join(steering, a.id); err != nil {
			return err
		}
	}
	v, err := n.settings()
	if err != nil {
		return err
	}
	if n.NetTile, err = in.Server.TakeTile(a.id, n.o); err != nil {
		return err
	}
	defer func() {
		if err != nil && n.o.Survive {
			n.HandOver() // whatever was wrong: the successor carries its clients on
			return
		}
		n.Release()
	}()
	probe.stage = n.Stage()
	for _, fd := range fds {
		if n.o.Survive && !listens(fd) { // a predecessor that was draining has closed it
			continue
		}
		if err := n.ListenFd(fd); err != nil {
			return err
		}
	}
	n.obey(n.order(&v))
	if n.o.Survive {
		p := in.Server.Params()
		n.keep(int(p.MaxConnectionCnt+p.MaxWsConnectionCnt) + 64)
	}
	loop := tile.Loop{Cnc: cnc, CPU: a.cpu, KeepOff: a.cpu != tile.Float}
	a.confine(&loop, sandbox.NetCalls)
	loop.OnSignal = func(s tile.Signal) {
		switch s {
		case sigEndOfInput:
			n.endOfInput()
		case sigSettings:
			n.look()
		}
	}
	loop.Housekeep = func(int64) { n.look() } // of a change that nobody could tell of: the tile was being started
	loop.Poll = func(now int64, timeoutMs int) int {
		work := n.Poll(now, timeoutMs)
		if n.over(now) {
			loop.Stop(nil)
		}
		return work
	}
	if err := loop.Run(); err != nil {
		return err
	}
	n.leave()
	return nil
}

// keep makes the keeper of a tile that may come to have most descriptors. Without one it serves all the same.
func (n *netTile) keep(most int) {
	runtime.LockOSThread() // not pinned yet: what the keeper makes inherits its CPUs
	defer runtime.UnlockOSThread()
	if _, err := keeper.Start(n.name, most); err != nil {
		n.log.Warn("connections will not outlive this tile", "error", err.Error())
		return
	}
	n.kept = true
}

// listens reports whether fd is a listening socket.
func listens(fd int) bool {
	on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && on != 0
}

// settings reads the settings in force into n.o.
func (n *netTile) settings() (v instance.Settings, err error) {
	if n.gen, err = n.life.Settings(&v); err == nil {
		err = (&limits{v.Limits}).options(&n.o)
	}
	return v, err
}

// look takes up the settings in force if they are others. What is wrong with them the supervisor should have noticed: the tile
// goes on with those that it has.
func (n *netTile) look() {
	if n.life.Generation() == n.gen {
		return
	}
	v, err := n.settings()
	if err == nil {
		err = n.SetOptions(n.o)
	}
	if err != nil {
		n.log.Error("settings not taken up", "error", err.Error())
		return
	}
	setLog(v.Log)
	n.obey(n.order(&v))
}

// order is the drain that the settings have for this tile, nil: none; and whether it is for this one alone, which leaves.
func (n *netTile) order(v *instance.Settings) (d *instance.Drain, leaves bool) {
	if d, ok := v.Leaving[n.id]; ok && v.Drain == nil && v.Nets > 0 && n.id >= v.Nets {
		return &d, true
	}
	return v.Drain, false
}

// obey begins a drain, or one with other times. A tile that leaves keeps its clients until its drain begins.
func (n *netTile) obey(d *instance.Drain, leaves bool) {
	stays := leaves && d.From > shmem.Monotonic()
	if stays != (n.stays != nil) {
		n.PauseListening(stays)
	}
	if n.stays = nil; stays {
		n.stays = d
		return
	}
	if d == nil || n.drain != nil && *n.drain == *d || n.until != 0 {
		return
	}
	n.drain = d
	n.DrainOver(httpsrv.Drainage{
		Code: httpsrv.CodeRestart, Text: "restarting", Why: httpsrv.CloseDrain, Within: drainTime, From: d.From, Over: d.Over, Requests: d.Requests,
	})
}

// endOfInput closes all clients, once they have everything.
func (n *netTile) endOfInput() {
	if n.until == 0 {
		n.Drain(httpsrv.CodeGoingAway, "end of input", httpsrv.CloseShutdown, drainTime)
		n.until = shmem.Monotonic() + 2*drainTime.Nanoseconds()
	}
}

// over reports whether all were to go and are gone, or had their time.
func (n *netTile) over(now int64) bool {
	if n.stays != nil {
		if all, _ := n.Conns(); all == 0 {
			return true
		}
		if now >= n.stays.From {
			n.obey(n.stays, false)
		}
	}
	if n.until == 0 {
		if n.drain == nil || !n.Drained() {
			return false
		}
		n.until = now + 2*drainTime.Nanoseconds()
	}
	all, _ := n.Conns()
	return all == 0 || now > n.until
}

// leave closes who is there, in a bounded time: with 1001 when the instance stops. When this tile alone is restarted its
// successor carries them on, or, if there can be none, they are closed with 1012.
func (n *netTile) leave() {
	code, text, why := uint16(httpsrv.CodeGoingAway), "shutting down", httpsrv.CloseShutdown
	var v instance.Settings
	state, _ := n.life.State()
	if _, err := n.life.Settings(&v); err == nil && state != instance.Stopping && v.Restarting == n.name {
		if n.kept && !v.Unkept {
			n.HandOver()
			return
		}
		code, text, why = httpsrv.CodeRestart, "restarting", httpsrv.CloseDrain
	}
	n.Drain(code, text, why, time.Second)
	for end := shmem.Monotonic() + 2*time.Second.Nanoseconds(); shmem.Monotonic() < end; {
		if all, _ := n.Conns(); all == 0 {
			break
		}
		n.Poll(shmem.Monotonic(), 10)
	}
}
