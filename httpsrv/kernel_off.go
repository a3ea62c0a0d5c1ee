//go:build !explore

package httpsrv

// sys makes the system calls.
var sys linux
