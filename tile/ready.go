package tile

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ReadyEnv names the environment variable by which a supervisor hands a tile the descriptor of a pipe that waits for
// its readiness.
const ReadyEnv = "TILEWIRE_READY_FD"

// NotifyReady tells the supervisor, if there is one that wants to know, that the cnc says SignalRun, and closes the
// pipe. Loop.Run calls it; a tile without a Loop calls it after SetSignal(SignalRun). A second call does nothing.
// Errors: the variable holds no descriptor of a pipe; the supervisor then finds out by looking at the cnc.
func NotifyReady() error {
	v, ok := os.LookupEnv(ReadyEnv)
	if !ok {
		return nil
	}
	os.Unsetenv(ReadyEnv) // the tile's own children shall not have it
	fd, err := strconv.Atoi(v)
	if err != nil || fd < 3 {
		return fmt.Errorf("tile: %s=%q is not a descriptor", ReadyEnv, v)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return fmt.Errorf("tile: %s=%d is not a pipe", ReadyEnv, fd)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte{1}); err != nil {
		return fmt.Errorf("tile: tell readiness: %w", err)
	}
	return nil
}
