package tile

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tilewire/tilewire/shmem"
)

// childEnv makes the test binary play the part that it names.
const childEnv = "TILE_TEST_CHILD"

func TestMain(m *testing.M) {
	if part := os.Getenv(childEnv); part != "" {
		if err := children[part](); err != nil {
			fmt.Fprintln(os.Stderr, part+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	before := openFDs()
	code := m.Run()
	if after := openFDs(); code == 0 && after > before+2 { // the runtime's epoll and its eventfd
		fmt.Fprintf(os.Stderr, "%d descriptors before, %d after\n", before, after)
		code = 1
	}
	os.Exit(code)
}

var children = map[string]func() error{"bell": bellChild}

func openFDs() int {
	fds, _ := os.ReadDir("/proc/self/fd")
	return len(fds)
}

var regionSerial atomic.Int64

// mapped gives a region's memory, gone at the test's end.
func mapped(t testing.TB, size uint64) (name string, m shmem.Mem) {
	t.Helper()
	name = fmt.Sprintf("tiletest-%d-%d", os.Getpid(), regionSerial.Add(1))
	r, err := shmem.Create(name, size, shmem.Options{Backing: shmem.BackingShm, MaxPageSize: shmem.PageNormal})
	if err != nil {
		t.Skipf("no region to be had: %v", err)
	}
	t.Cleanup(func() {
		if err := r.Leave(); err != nil {
			t.Error(err)
		}
		if err := shmem.Unlink(name, true); err != nil {
			t.Error(err)
		}
	})
	return name, r.Mem()
}

// overBoth runs a test over heap memory, and over a mapped region unless the race detector, blind there, is on.
func overBoth(t *testing.T, size uint64, f func(t *testing.T, m shmem.Mem)) {
	t.Run("heap", func(t *testing.T) { f(t, shmem.Heap(size, 128)) })
	if raceBuild {
		return
	}
	t.Run("mapped", func(t *testing.T) {
		_, m := mapped(t, size)
		m, err := m.Slice(0, size)
		if err != nil {
			t.Fatal(err)
		}
		f(t, m)
	})
}

func slice(t testing.TB, m shmem.Mem, off, n uint64) shmem.Mem {
	t.Helper()
	s, err := m.Slice(off, n)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantText(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("error %v does not say %q", err, p)
		}
	}
}
