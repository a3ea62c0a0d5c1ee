package steer

import "fmt"

// Mode is how a new connection's tile is chosen. The numbers are those of program.c.
type Mode uint32

const (
	Off    Mode = iota // the kernel's own hash, over all listeners, live or not
	Hash               // a hash of both addresses and ports, over live tiles
	Least              // the live tile with the fewest connections
	CPU                // the tile of the CPU that handles the SYN (SetCPU), else Hash
	Source             // a hash of the client's address (IPv6: its /64), so that a client's connections meet in one tile
	Auto               // Least where the program can be loaded, else Off
)

var modeNames = [...]string{Off: "off", Hash: "hash", Least: "least", CPU: "cpu", Source: "source", Auto: "auto"}

// String returns the mode's name in the configuration, "unknown" for anything else.
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return "unknown"
}

// ParseMode is the inverse of String. ErrParams names what there is.
func ParseMode(s string) (Mode, error) {
	for m, name := range modeNames {
		if s == name {
			return Mode(m), nil
		}
	}
	return Off, fmt.Errorf("%w: mode %q: want off, hash, least, cpu, source or auto", ErrParams, s)
}
