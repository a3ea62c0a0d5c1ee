//go:build !race

package httpsrv

const rigRace = false
