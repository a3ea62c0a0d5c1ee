package instance

import (
	"encoding/json"
	"errors"
	"fmt"
	"structs"
	"sync/atomic"
	"time"

	"github.com/tilewire/tilewire/shmem"
)

// State is where an instance stands in its life, as its supervisor says.
//
//	Starting --all tiles ready--> Ready --drain--> Draining --> Stopping --> (removed)
//	                                +------------stop-------------^
//
// A supervisor that was killed leaves the state as it was: Owned tells whether there is one.
type State uint8

const (
	Starting State = iota // tiles are being started, or nobody runs it yet
	Ready                 // every tile has been ready
	Draining              // nobody new is let in, clients are being sent elsewhere
	Stopping              // tiles are being taken down
	stateCnt
)

var stateNames = [stateCnt]string{"starting", "ready", "draining", "stopping"}

// String gives the name in lower case, 'unknown' for anything else.
func (s State) String() string {
	if s >= stateCnt {
		return "unknown"
	}
	return stateNames[s]
}

const (
	lifeMagic   = 0x6566694c5f777400 // "\0tw_Life"
	lifeVersion = 1
	lifeAlign   = 128
	lifeSz      = 256 + 2*lifeBufSz
	lifeBufSz   = 16 << 10

	// SettingsMax is the most bytes of JSON that SetSettings takes.
	SettingsMax = lifeBufSz - 8
)

// errSettings: they are larger than SettingsMax, or what lies in shared memory is none.
var errSettings = errors.New("settings")

// lifeMem is an instance's state and the settings in force, in shared memory.
//
//	    0 +------------------------------------------------+
//	      | magic, version, size                           | writer: New
//	  128 +------------------------------------------------+
//	      | word: state (low 8 bits), since when in µs     | writer: supervisor
//	      | gen: of the settings in force, in bufs[gen&1]  |
//	      | pid of the last supervisor                     |
//	  256 +------------------------------------------------+
//	      | bufs[0], bufs[1]: length, JSON                 | writer: supervisor, the one not in force
//	33024 +------------------------------------------------+
type lifeMem struct {
	_       structs.HostLayout
	magic   atomic.Uint64
	version uint32
	size    uint32
	_       [112]byte
	word    atomic.Uint64
	gen     atomic.Uint64
	pid     atomic.Uint64
	_       [104]byte
	bufs    [2]lifeBuf
}

type lifeBuf struct {
	_    structs.HostLayout
	len  atomic.Uint64
	data [SettingsMax / 8]atomic.Uint64
}

// Life is a process's join of it. Readers: any process, in read-only memory too. Writer: the supervisor alone, that is
// who has the role of OwnFor; what one that died was writing is in the buffer that is not in force.
type Life struct {
	m shmem.Mem
	l *lifeMem
}

func lifeNew(m shmem.Mem) error {
	l, err := shmem.At[lifeMem](m, 0)
	if err != nil {
		return fmt.Errorf("instance: life: %w", err)
	}
	clear(m.Bytes()[:lifeSz])
	l.version, l.size = lifeVersion, lifeSz
	l.magic.Store(lifeMagic)
	return nil
}

func lifeJoin(m shmem.Mem) (*Life, error) {
	l, err := shmem.At[lifeMem](m, 0)
	if err != nil {
		return nil, fmt.Errorf("instance: life: %w", err)
	}
	if g, v, n := l.magic.Load(), l.version, l.size; g != lifeMagic || v != lifeVersion || n != lifeSz {
		return nil, fmt.Errorf("instance: life: magic %#x, version %d, %d bytes; this build has version %d of %d", g, v, n, lifeVersion, lifeSz)
	}
	return &Life{m, l}, nil
}

// State returns the state and since when it holds, as of shmem.Monotonic in ns (to the µs). Any process.
func (l *Life) State() (State, int64) {
	w := l.l.word.Load()
	return State(w), int64(w>>8) * 1000
}

// SetState says that the instance is in state s from now on. Writer: supervisor. It panics in read-only memory.
func (l *Life) SetState(s State) {
	l.mustWrite()
	l.l.word.Store(uint64(shmem.Monotonic())/1000<<8 | uint64(s))
}

// Pid is that of the last supervisor, in its own pid namespace, for messages to people; 0 before the first.
func (l *Life) Pid() int { return int(l.l.pid.Load()) }

// Generation counts the settings: 0 before the first. Whoever keeps settings looks here whether they are still in force.
func (l *Life) Generation() uint64 { return l.l.gen.Load() }

// Settings decodes the settings in force into v (a *Settings, or any struct with some of its keys) and returns their
// generation; 0, and v as it was, before the first. Any process. Errors: what is there is not JSON of v's form.
func (l *Life) Settings(v any) (gen uint64, err error) {
	for {
		gen = l.l.gen.Load()
		if gen == 0 {
			return 0, nil
		}
		b := &l.l.bufs[gen&1]
		n := b.len.Load()
		if n > SettingsMax {
			if l.l.gen.Load() != gen {
				continue
			}
			return gen, fmt.Errorf("instance: %w of %d bytes in %d", errSettings, n, SettingsMax)
		}
		js := make([]byte, 0, n+7)
		for i := range (n + 7) / 8 {
			w := b.data[i].Load()
			js = append(js, byte(w), byte(w>>8), byte(w>>16), byte(w>>24), byte(w>>32), byte(w>>40), byte(w>>48), byte(w>>56))
		}
		// This buffer is written again only after the generation has moved on.
		if l.l.gen.Load() != gen {
			continue
		}
		if err := json.Unmarshal(js[:n], v); err != nil {
			return gen, fmt.Errorf("instance: %w of generation %d: %w", errSettings, gen, err)
		}
		return gen, nil
	}
}

// SetSettings puts v (as JSON) in force and returns its generation. Writer: supervisor. Errors: larger than SettingsMax; the
// old ones stay in force. It panics in read-only memory.
func (l *Life) SetSettings(v any) (gen uint64, err error) {
	l.mustWrite()
	js, err := json.Marshal(v)
	if err != nil {
		return 0, fmt.Errorf("instance: %w: %w", errSettings, err)
	}
	if len(js) > SettingsMax {
		return 0, fmt.Errorf("instance: %w of %d bytes, at most %d can be held; allow fewer origins, trust fewer proxies", errSettings, len(js), SettingsMax)
	}
	gen = l.l.gen.Load() + 1
	b := &l.l.bufs[gen&1]
	b.len.Store(uint64(len(js)))
	for i := 0; i < len(js); i += 8 {
		w := uint64(0)
		for k := min(8, len(js)-i) - 1; k >= 0; k-- {
			w = w<<8 | uint64(js[i+k])
		}
		b.data[i/8].Store(w)
	}
	l.l.gen.Store(gen)
	return gen, nil
}

func (l *Life) mustWrite() {
	if l.m.ReadOnly() {
		panic("instance: life: written in read-only memory")
	}
}

// Settings is what the tiles of an instance are told, by JSON in its Life. Durations are in ns.
type Settings struct {
	Limits   Limits   `json:"limits"`
	Shutdown Shutdown `json:"shutdown"`
	Log      Log      `json:"log"`

	// Drain is the order to send all clients away, nil before there is one. A tile that is started meanwhile obeys it too.
	Drain *Drain `json:"drain,omitempty"`

	// Nets is how many network tiles are to serve: 0 to Nets-1; 0: all there are. Those beyond take nobody new in, and end when
	// their clients have gone; who is left is sent away as Leaving says of each. Down are those that were given up, whose work the others do.
	Nets    int           `json:"net_tile_count,omitempty"`
	Leaving map[int]Drain `json:"leaving,omitempty"`
	Down    []int         `json:"given_up,omitempty"`

	// Restarting is the tile (kind:id) that is halted to be started again, so that its clients are told to come back.
	Restarting string `json:"restarting,omitempty"`

	// Unkept: the tile that is Restarting has no keeper any more, to which it could leave its clients.
	Unkept bool `json:"unkept,omitempty"`

	HeartbeatTimeout time.Duration `json:"heartbeat_timeout"` // an older heartbeat is stale
	RestartMax       int           `json:"restart_max"`       // of one tile within a minute
}

// Limits are what clients are held to; docs/hostile.md explains each.
type Limits struct {
	PerIP        int           `json:"max_connections_per_ip"`
	AcceptRate   int           `json:"accept_rate_per_second"`
	OnFull       string        `json:"on_full"`
	AllowOrigins []string      `json:"allowed_origins"`
	Header       time.Duration `json:"header_timeout"`
	Body         time.Duration `json:"body_timeout"`
	KeepAlive    bool          `json:"keep_alive"`
	Idle         time.Duration `json:"idle_timeout"`
	OnLag        string        `json:"on_lag"`
	MaxLagBytes  uint64        `json:"max_lag_bytes"`
	MaxLag       time.Duration `json:"max_lag"`
	Write        time.Duration `json:"write_timeout"`
	PingInterval time.Duration `json:"ping_interval"`
	PongTimeout  time.Duration `json:"pong_timeout"`

	ProxyProtocol  string   `json:"proxy_protocol"`
	TrustedProxies []string `json:"trusted_proxies"`
}

// Shutdown is how long an instance takes to end while clients are connected.
type Shutdown struct {
	Grace    time.Duration `json:"grace"`     // from the word to drain to the first close
	Drain    time.Duration `json:"drain"`     // from the first close to the last
	LameDuck time.Duration `json:"lame_duck"` // the same of a lame duck
	Linger   time.Duration `json:"linger"`    // from the word to leave to a tile until that drains; 0: for ever
}

// Forever is a time that does not come, nor does one some days later. JSON's numbers hold it exactly.
const Forever = 1 << 62

// Drain is an order to a network tile: the first client goes at From (shmem.Monotonic, or Forever), the last within Over.
type Drain struct {
	From int64         `json:"from"`
	Over time.Duration `json:"over"`

	Requests bool `json:"requests,omitempty"` // those under way are answered first
}

// Log is what is logged, and how.
type Log struct {
	Level  string `json:"level"`  // debug, info, warn, error
	Format string `json:"format"` // auto, text, json
}
