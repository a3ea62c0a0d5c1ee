//go:build !race

package echo

const (
	octetsMax = 1 << 20 // writes of one octet in a turn; longer turns make larger writes
	raceOn    = false
)
