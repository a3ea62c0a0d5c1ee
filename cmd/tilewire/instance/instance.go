// Package instance is how a Tilewire instance lies in a workspace: one region
// that holds one workspace with these named objects,
//
//	instance        what every process of it must know (Info)
//	server          the httpsrv server
//	cnc.KIND.ID     command-and-control of each tile
//
// and one run directory with the doorbells' FIFOs. It joins the packages that
// know nothing of each other; it holds no state of its own.
package instance

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

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
	// ErrTaken: an instance of this name runs.
	ErrTaken = errors.New("name is taken")
)

const (
	tagInstance = 1
	tagServer   = 2
	tagCnc      = 3

	infoSz  = 8192
	partMax = 512
)

// Info is what every process of an instance must know. It is written before
// the region becomes visible and never changed.
type Info struct {
	Name    string   `json:"name"`
	RunDir  string   `json:"run_dir"`
	Listen  []string `json:"listen"`
	History uint32   `json:"history"`
	Started int64    `json:"started_unix_ns"`
	Pid     int      `json:"pid"` // of its creator, for messages to people
}

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
}

// Create makes the instance's region with everything in it, and its run
// directory. An instance of the same name that nobody is joined to (a crash
// left it) is removed first. Errors: ErrTaken, httpsrv.ErrParams, and those of
// shmem.Create, with figures and the command that mends it.
func Create(info Info, p httpsrv.Params, tiles []Tile, o shmem.Options) (*Instance, error) {
	if err := shmem.CheckName(info.Name); err != nil {
		return nil, err
	}
	if _, err := shmem.Reap(info.Name); err != nil && !errors.Is(err, shmem.ErrNotFound) {
		return nil, err
	}
	sz, err := httpsrv.Footprint(p)
	if err != nil {
		return nil, err
	}
	if info.RunDir, err = makeRunDir(info.Name); err != nil {
		return nil, err
	}
	data := sz + infoSz + uint64(len(tiles))*4096 + 64<<10
	size, err := wksp.Footprint(partMax, data)
	if err != nil {
		return nil, err
	}
	o.Init = func(m shmem.Mem) error { return format(m, info, p, sz, data, tiles) }
	reg, err := shmem.Create(info.Name, size, o)
	if errors.Is(err, shmem.ErrExists) {
		return nil, fmt.Errorf("%w: an instance called %q is live; choose another --name, or end it: %w", ErrTaken, info.Name, err)
	}
	if err != nil {
		return nil, err
	}
	return adopt(reg)
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
// empty. Errors: ErrNone, ErrMany with their names, and what the layers find.
func Join(name string, access shmem.Access) (*Instance, error) {
	if name == "" {
		live, err := Live()
		if err != nil {
			return nil, err
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

// adopt joins what is in a region.
func adopt(reg *shmem.Region) (in *Instance, err error) {
	in = &Instance{Region: reg}
	defer func() {
		if err != nil {
			_ = reg.Leave()
		}
	}()
	if in.Wksp, err = wksp.Join(reg.Mem()); err != nil {
		return nil, err
	}
	obj, err := in.Wksp.Lookup("instance")
	if err != nil {
		return nil, err
	}
	b := obj.Mem.Bytes()
	n := 0
	for n < len(b) && b[n] != 0 {
		n++
	}
	if err := json.Unmarshal(b[:n], &in.Info); err != nil {
		return nil, fmt.Errorf("%s holds no instance: %w", reg.Path(), err)
	}
	if obj, err = in.Wksp.Lookup("server"); err != nil {
		return nil, err
	}
	in.Server, err = httpsrv.Join(obj.Mem)
	return in, err
}

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

// Bell returns the path of a network tile's doorbell.
func (in *Instance) Bell(id int) string {
	return filepath.Join(in.Info.RunDir, "net."+strconv.Itoa(id)+".bell")
}

// Leave ends the join. The instance stays for others.
func (in *Instance) Leave() error {
	in.Server.Leave()
	in.Wksp.Leave()
	return in.Region.Leave()
}

// Remove leaves the instance and, unless others are joined, removes its region
// and run directory.
func (in *Instance) Remove() error {
	if err := in.Leave(); err != nil {
		return err
	}
	err := shmem.Unlink(in.Info.Name, false)
	if errors.Is(err, shmem.ErrJoined) {
		return err // a producer that joined is still there
	}
	_ = os.RemoveAll(in.Info.RunDir)
	return err
}

// makeRunDir makes the directory for what is not memory: $TILEWIRE_RUN_DIR,
// /run/tilewire for root, $XDG_RUNTIME_DIR/tilewire, or one in the temporary
// directory that belongs to this user alone.
func makeRunDir(name string) (string, error) {
	base := os.Getenv("TILEWIRE_RUN_DIR")
	switch xdg := os.Getenv("XDG_RUNTIME_DIR"); {
	case base != "":
	case os.Geteuid() == 0:
		base = "/run/tilewire"
	case xdg != "":
		base = filepath.Join(xdg, "tilewire")
	default:
		base = filepath.Join(os.TempDir(), "tilewire-"+strconv.Itoa(os.Geteuid()))
	}
	dir, err := filepath.Abs(filepath.Join(base, name))
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("run directory: %w (set TILEWIRE_RUN_DIR to a directory of yours)", err)
	}
	if fi, err := os.Lstat(dir); err != nil || !fi.IsDir() {
		return "", fmt.Errorf("run directory %s is no directory (set TILEWIRE_RUN_DIR)", dir)
	}
	return dir, nil
}
