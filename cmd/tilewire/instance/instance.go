// Package instance is how a Tilewire instance lies in a workspace: one region
// that holds one workspace with these named objects,
//
//	instance        what every process of it must know (Info)
//	life            its state and the settings in force (Life)
//	server          the httpsrv server
//	cnc.KIND.ID     command-and-control of each tile
//
// and one run directory with the doorbells' FIFOs. It joins the packages that
// know nothing of each other; it holds no state of its own.
package instance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
	"github.com/tilewire/tilewire/wksp"
)

var (
	// ErrNone: no instance of this name, or none at all, is there.
	ErrNone = errors.New("no instance")
	// ErrMany: more than one instance runs, and none was named.
	ErrMany = errors.New("several instances run")
	// ErrTaken: an instance of this name runs, or processes are joined to its memory.
	ErrTaken = errors.New("name is taken")
	// ErrForeign: the region of this name holds no instance that this program can join: another program's, one of
	// another build's layout, damaged, or another user's where it must be one's own.
	ErrForeign = errors.New("no instance that this program can join")
)

const (
	tagInstance = 1
	tagServer   = 2
	tagCnc      = 3
	tagLife     = 4

	infoSz  = 8192
	partMax = 512

	// MaxNets is how many network tiles an instance can have.
	MaxNets = 64
)

// Info is what every process of an instance must know. It is written before
// the region becomes visible and never changed.
type Info struct {
	Name    string   `json:"name"`
	RunDir  string   `json:"run_dir"`
	Listen  []string `json:"listen"`
	Topics  []Topic  `json:"topics"`
	Nets    int      `json:"net_tile_count,omitempty"` // network tiles that are to run, unless told otherwise
	Keep    bool     `json:"keep"`                     // made to be run later: stays when nobody is joined
	Started int64    `json:"started_unix_ns"`
	Pid     int      `json:"pid"` // of its creator, for messages to people
}

// KindNet is the kind of tile that serves clients.
const KindNet = "net"

// Tile names one tile.
type Tile struct {
	Kind string
	ID   int
}

// String gives kind:id.
func (t Tile) String() string { return t.Kind + ":" + strconv.Itoa(t.ID) }

func (t Tile) object() string { return "cnc." + t.Kind + "." + strconv.Itoa(t.ID) }

// Instance is a process's join of an instance.
type Instance struct {
	Info   Info
	Region *shmem.Region
	Wksp   *wksp.Wksp
	Server *httpsrv.Server

	life *Life
	info shmem.Mem // its byte 0 bears the supervisor's role
	own  *shmem.Lock
	file os.FileInfo // of the region as it was joined, nil if it was gone by then
}

// Create makes the instance's region with everything in it, and its run
// directory, and takes the supervisor's role (Own). An instance of the same
// name that a crash left is removed first, and nothing else that has it. Errors:
// ErrTaken, ErrForeign, httpsrv.ErrParams, and those of shmem.Create, with figures
// and the command that mends it.
func Create(info Info, p httpsrv.Params, tiles []Tile, o shmem.Options) (*Instance, error) {
	if err := shmem.CheckName(info.Name); err != nil {
		return nil, err
	}
	sz, data, size, err := footprint(p, tiles)
	if err != nil {
		return nil, err
	}
	if info.Topics == nil {
		info.Topics = []Topic{{Name: DefaultTopic}}
	}
	if err := vacate(info.Name); err != nil {
		return nil, err
	}
	if info.RunDir, err = makeRunDir(info.Name); err != nil {
		return nil, err
	}
	o.Init = func(m shmem.Mem) error { return format(m, info, p, sz, data, tiles) }
	reg, err := shmem.Create(info.Name, size, o)
	for end := time.Now().Add(readersGo); errors.Is(err, shmem.ErrExists) && onlyRead(info.Name) && time.Now().Before(end); {
		time.Sleep(2 * time.Millisecond) // a verb that looks at what the crash left; nobody tells when it has gone
		if err = vacate(info.Name); err == nil {
			reg, err = shmem.Create(info.Name, size, o)
		}
	}
	if errors.Is(err, shmem.ErrExists) {
		return nil, takenError(info.Name)
	}
	if err != nil {
		_ = os.Remove(info.RunDir) // unless something is in it
		return nil, err
	}
	in, err := adopt(reg)
	if err != nil {
		return nil, err
	}
	if err := in.Own(); err != nil {
		_ = in.Leave()
		return nil, err
	}
	return in, nil
}

// readersGo is how long Create waits for readers of what a crash left.
const readersGo = time.Second

// onlyRead reports whether nobody but readers is joined.
func onlyRead(name string) bool {
	n, err := writers(name)
	return err == nil && n == 0
}

// keeps reports whether the instance was made to be run later, and has not been run yet.
func (in *Instance) keeps() bool { return in.Info.Keep && in.life.Generation() == 0 }

// Writers counts the processes that are joined and may write, this one included.
func (in *Instance) Writers() (n int, err error) { return writers(in.Info.Name) }

func writers(name string) (n int, err error) {
	js, err := shmem.Joiners(name)
	for _, j := range js {
		if !j.ReadOnly {
			n++
		}
	}
	return n, err
}

// Footprint returns the bytes that Create asks of shmem.Create; the region is
// these, rounded up to its pages. Errors: httpsrv.ErrParams.
func Footprint(p httpsrv.Params, tiles []Tile) (uint64, error) {
	_, _, size, err := footprint(p, tiles)
	return size, err
}

// footprint gives the bytes of the server, of the workspace's data, and of all.
func footprint(p httpsrv.Params, tiles []Tile) (server, data, size uint64, err error) {
	if server, err = httpsrv.Footprint(p); err != nil {
		return 0, 0, 0, err
	}
	data = server + infoSz + lifeSz + uint64(len(tiles))*4096 + 64<<10
	size, err = wksp.Footprint(partMax, data)
	return server, data, size, err
}

// takenError is ErrTaken with who is joined.
func takenError(name string) error {
	js, err := shmem.Joiners(name)
	switch {
	case errors.Is(err, shmem.ErrPermission):
		return fmt.Errorf("%w: the instance called %q is another user's; choose another --name (%v)", ErrTaken, name, err)
	case errors.Is(err, shmem.ErrNotRegion), errors.Is(err, shmem.ErrExists):
		return fmt.Errorf("%w: %q: %v; choose another --name", ErrTaken, name, err)
	}
	var pids []string
	for _, j := range js {
		if j.Pid != os.Getpid() {
			pids = append(pids, strconv.Itoa(j.Pid))
		}
	}
	if pids == nil {
		return fmt.Errorf("%w: an instance called %q is starting or ending; choose another --name", ErrTaken, name)
	}
	return fmt.Errorf("%w: an instance called %q is live (process %s); choose another --name, or end it",
		ErrTaken, name, strings.Join(pids, ", "))
}

// format lays the instance out in a fresh region.
func format(m shmem.Mem, info Info, p httpsrv.Params, serverSz, data uint64, tiles []Tile) error {
	if err := wksp.New(m, info.Name, partMax, data, uint64(os.Getpid())); err != nil {
		return err
	}
	w, err := wksp.Join(m)
	if err != nil {
		return err
	}
	defer w.Leave()
	obj, err := w.NewNamed("server", httpsrv.Align(), serverSz, tagServer)
	if err != nil {
		return err
	}
	if err := httpsrv.New(obj.Mem, p); err != nil {
		return err
	}
	for _, t := range tiles {
		if obj, err = w.NewNamed(t.object(), tile.CncAlign, tile.CncFootprint, tagCnc); err != nil {
			return err
		}
		if err := tile.CncNew(obj.Mem, t.Kind, t.ID); err != nil {
			return err
		}
	}
	if obj, err = w.NewNamed("life", lifeAlign, lifeSz, tagLife); err != nil {
		return err
	}
	if err := lifeNew(obj.Mem); err != nil {
		return err
	}
	b, err := json.Marshal(info)
	if err != nil {
		return err
	}
	if len(b) >= infoSz {
		return fmt.Errorf("instance: %d bytes of configuration into %d", len(b), infoSz)
	}
	if obj, err = w.NewNamed("instance", 8, infoSz, tagInstance); err != nil {
		return err
	}
	dst := obj.Mem.Bytes()
	clear(dst[copy(dst, b):])
	return nil
}

// Join joins the instance called name, or the only one that runs if name is
// empty. Errors: ErrNone, ErrMany with their names, ErrForeign with what the
// layers found, shmem.ErrPermission.
func Join(name string, access shmem.Access) (*Instance, error) {
	if name == "" {
		live, err := Live()
		if err != nil {
			return nil, err
		}
		if all, err := shmem.List(); len(live) == 0 && access == shmem.ReadOnly && err == nil && len(all) == 1 {
			live = []string{all[0].Name} // what a crash left may be looked at
		}
		switch len(live) {
		case 0:
			return nil, fmt.Errorf("%w runs here; start one with `tilewire pipe` or `tilewire run`", ErrNone)
		case 1:
			name = live[0]
		default:
			return nil, fmt.Errorf("%w: %s; name one with --name", ErrMany, strings.Join(live, ", "))
		}
	}
	reg, err := shmem.Open(name, access)
	if errors.Is(err, shmem.ErrNotFound) {
		return nil, fmt.Errorf("%w called %q: %w", ErrNone, name, err)
	}
	if errors.Is(err, shmem.ErrNotRegion) {
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	if errors.Is(err, shmem.ErrPermission) {
		return nil, fmt.Errorf("%w; the instance is another user's: join it as that user, or choose another name", err)
	}
	if err != nil {
		return nil, err
	}
	return adopt(reg)
}

// Live lists the instances that somebody is joined to.
func Live() ([]string, error) {
	all, err := shmem.List()
	if err != nil {
		return nil, err
	}
	var live []string
	for _, i := range all {
		if i.Err == nil && len(i.Joiners) > 0 {
			live = append(live, i.Name)
		}
	}
	return live, nil
}

// adopt joins what is in a region. Nothing in it is trusted: each layer checks what it finds.
func adopt(reg *shmem.Region) (in *Instance, err error) {
	in = &Instance{Region: reg}
	defer func() {
		if err != nil {
			_ = reg.Leave()
			err = fmt.Errorf("%w: %s: %w", ErrForeign, reg.Path(), err)
		}
	}()
	in.file, _ = os.Stat(reg.Path())
	if in.Wksp, err = wksp.Join(reg.Mem()); err != nil {
		return nil, err
	}
	obj, err := in.Wksp.Lookup("instance")
	if err != nil {
		return nil, err
	}
	in.info = obj.Mem
	b, _, _ := bytes.Cut(obj.Mem.Bytes(), []byte{0})
	if err := json.Unmarshal(b, &in.Info); err != nil {
		return nil, fmt.Errorf("what describes it: %w", err)
	}
	if in.Info.Name != reg.Name() || !filepath.IsAbs(in.Info.RunDir) {
		return nil, fmt.Errorf("it says that it is %q with the run directory %q", in.Info.Name, in.Info.RunDir)
	}
	if obj, err = in.Wksp.Lookup("life"); err != nil {
		return nil, err
	}
	if in.life, err = lifeJoin(obj.Mem); err != nil {
		return nil, err
	}
	if obj, err = in.Wksp.Lookup("server"); err != nil {
		return nil, err
	}
	if in.Server, err = httpsrv.Join(obj.Mem); err == nil && len(in.Info.Topics) != int(in.Server.Params().RingCnt) {
		err = fmt.Errorf("it names %d topics of %d rings", len(in.Info.Topics), in.Server.Params().RingCnt)
	}
	if err != nil {
		return nil, err
	}
	return in, nil
}

// Life returns the instance's state and settings.
func (in *Instance) Life() *Life { return in.life }

// Cnc returns the memory of a tile's cnc.
func (in *Instance) Cnc(t Tile) (shmem.Mem, error) {
	obj, err := in.Wksp.Lookup(t.object())
	return obj.Mem, err
}

// Tiles lists the instance's tiles by what the workspace holds, in order of their names.
func (in *Instance) Tiles() []Tile {
	var ts []Tile
	for _, o := range in.Wksp.Names() {
		kind, ok := strings.CutPrefix(o.Name, "cnc.")
		if !ok {
			continue
		}
		if i := strings.LastIndexByte(kind, '.'); i > 0 {
			if id, err := strconv.Atoi(kind[i+1:]); err == nil {
				ts = append(ts, Tile{kind[:i], id})
			}
		}
	}
	return ts
}

// Rest sets the cncs of tiles that nobody plays to their beginning: what a crash left in them says nothing about the
// run that begins. For the supervisor, before it starts tiles. Errors: a cnc that is none.
func (in *Instance) Rest() error {
	for _, t := range in.Tiles() {
		m, err := in.Cnc(t)
		if err != nil {
			return err
		}
		c, err := tile.CncJoin(m)
		if err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
		if err := c.Reset(false); err != nil && !errors.Is(err, tile.ErrHeld) {
			return fmt.Errorf("%v: %w", t, err)
		}
	}
	return nil
}
