//go:build race

package echo

const (
	octetsMax = 2000
	raceOn    = true
)
