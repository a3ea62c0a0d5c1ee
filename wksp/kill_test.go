package wksp

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// A child of these tests is this test binary with envVictim set to "region seed step": it joins the workspace in the
// region and allocates, frees and rebuilds at random until it is killed, saying before each allocation and free what it is about to
// do and after it what came of it. Under the tag explore, step > 0 makes it kill itself before that store.
const envVictim = "WKSP_TEST_VICTIM"

// A child with envFiler set to "verb region file step" restores file into the workspace in the region, or writes a checkpoint of it
// to file, there or as on a file system without nameless files; once and for all if step is 0, and under the tag explore it
// kills itself before store step.
const envFiler = "WKSP_TEST_FILER"

func TestMain(m *testing.M) {
	if v := os.Getenv(envVictim); v != "" {
		fmt.Println("error", victimMain(v))
		os.Exit(1)
	}
	if v := os.Getenv(envFiler); v != "" {
		fmt.Println("error", filerMain(v))
		os.Exit(1)
	}
	before := openFiles()
	code := m.Run()
	if after := openFiles(); after != before && code == 0 && flag.Lookup("test.fuzz").Value.String() == "" {
		fmt.Printf("%d descriptors and lock mappings before the tests, %d after\n", before, after)
		code = 1
	}
	os.Exit(code)
}

// openFiles counts this process's descriptors and its mappings of regions; an owner lock that is not let go keeps one.
func openFiles() int {
	fds, _ := os.ReadDir("/proc/self/fd")
	maps, _ := os.ReadFile("/proc/self/maps")
	n := strings.Count(string(maps), "tilewire.")
	for _, fd := range fds { // the runtime opens an epoll and an eventfd of its own when it needs them
		if at, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.Contains(at, "tilewire.") {
			n++
		}
	}
	return n
}

func victimMain(arg string) error {
	var name string
	var seed, step uint64
	if _, err := fmt.Sscan(arg, &name, &seed, &step); err != nil {
		return err
	}
	r, err := shmem.Open(name, shmem.ReadWrite)
	if err != nil {
		return err
	}
	w, err := Join(r.Mem())
	if err != nil {
		return err
	}
	list, err := w.TagQuery()
	if err != nil {
		return err
	}
	var live []uint64
	for _, o := range list {
		live = append(live, o.Gaddr)
	}
	armKill(int(step))
	rnd := rand.New(rand.NewPCG(seed, 3))
	for i := 0; ; i++ {
		for rnd.IntN(3) > 0 { // long, so that many deaths fall inside
			if err := w.Rebuild(); err != nil {
				return err
			}
		}
		if len(live) > 0 && (rnd.IntN(2) == 0 || len(live) > 60) {
			j := rnd.IntN(len(live))
			fmt.Println("free", live[j])
			if err := w.Free(live[j]); err != nil {
				return err
			}
			fmt.Println("done", live[j])
			live = slices.Delete(live, j, j+1)
			continue
		}
		size := 1 + rnd.Uint64N(3000)
		obj := fmt.Sprintf("o%d/%d", seed, i)
		fmt.Println("new", obj, size)
		o, err := w.NewNamed(obj, 1<<rnd.IntN(13), size, size)
		if err != nil {
			return err
		}
		fmt.Println("done", o.Gaddr)
		live = append(live, o.Gaddr)
	}
}

func filerMain(arg string) error {
	var verb, name, file string
	var step int
	if _, err := fmt.Sscan(arg, &verb, &name, &file, &step); err != nil {
		return err
	}
	r, err := shmem.Open(name, shmem.ReadWrite)
	if err != nil {
		return err
	}
	w, err := Join(r.Mem())
	if err != nil {
		return err
	}
	act := w.Checkpt
	switch verb {
	case "restore":
		act = w.Restore
	case "checkpt-named":
		openNameless = func(string) (*os.File, error) { return nil, unix.EOPNOTSUPP }
	}
	armKill(step)
	if _, err := act(file); err != nil {
		return err
	}
	os.Exit(0)
	return nil
}

// runFiler starts a filer and tells whether it came to its end.
func runFiler(t *testing.T, verb, name, file string, step int) bool {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s %d", envFiler, verb, name, file, step))
	out, err := cmd.Output()
	if strings.HasPrefix(string(out), "error") {
		t.Fatal(string(out))
	}
	return err == nil
}

// claim is what a victim said that is allocated.
type claim struct {
	name string
	size uint64
}

// tell follows a victim's words: known is what is certainly allocated, by gaddr; the result is the operation that
// was under way at the end, if any.
func tell(t *testing.T, known map[uint64]claim, words []string) (newName string, newSize, freeing uint64) {
	num := func(s string) uint64 {
		v, err := strconv.ParseUint(s, 10, 64)
		ok(t, err)
		return v
	}
	for _, line := range words {
		switch f := strings.Fields(line); f[0] {
		case "new":
			newName, newSize = f[1], num(f[2])
		case "free":
			freeing = num(f[1])
		case "done":
			if freeing != 0 {
				delete(known, freeing)
			} else {
				known[num(f[1])] = claim{newName, newSize}
			}
			newName, newSize, freeing = "", 0, 0
		default:
			t.Fatalf("victim says: %s", line)
		}
	}
	return newName, newSize, freeing
}

// runVictim starts a victim, kills it after so many lines if lines > 0 (else it kills itself), and returns all that
// it said in whole lines.
func runVictim(t *testing.T, name string, seed uint64, step, lines int) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %d", envVictim, name, seed, step))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	r := bufio.NewReader(out)
	var words []string
	for {
		line, err := r.ReadString('\n')
		if err == io.EOF {
			break
		}
		ok(t, err)
		words = append(words, strings.TrimSpace(line))
		if len(words) == lines {
			ok(t, cmd.Process.Kill())
		}
	}
	_ = cmd.Wait()
	return words
}

// aftermath checks what a dead victim left against what it said, lets it be mended, and checks again.
func aftermath(t *testing.T, w *Wksp, known map[uint64]claim, words []string) {
	t.Helper()
	newName, newSize, freeing := tell(t, known, words)
	look := func() map[uint64]claim {
		l, err := w.TagQuery()
		ok(t, err)
		got := map[uint64]claim{}
		for _, o := range l {
			if o.Tag != o.Size {
				t.Fatalf("mixture: %+v", o)
			}
			got[o.Gaddr] = claim{o.Name, o.Size}
		}
		return got
	}
	got := look()
	for g, c := range got { // what is there was done, or under way
		if known[g] == (claim{}) && c == (claim{newName, newSize}) {
			known[g] = c
		}
		if known[g] != c {
			t.Fatalf("%#x: %+v, the victim said %+v (new %s %d, freeing %#x)", g, c, known[g], newName, newSize, freeing)
		}
	}
	for g, c := range known { // what was done is there, unless it was being freed
		if _, there := got[g]; !there {
			if g != freeing {
				t.Fatalf("%#x: %+v is lost", g, c)
			}
			delete(known, g)
		}
	}
	if o, err := w.Owner(); err != nil || o.Held {
		t.Fatalf("a dead owner holds the lock: %+v, %v", o, err)
	}
	_, err := w.Check()
	ok(t, err)
	ok(t, w.Verify())
	after := look()
	if len(after) != len(got) {
		t.Fatalf("recovery made %d of %d allocations", len(after), len(got))
	}
	for g, c := range got {
		if after[g] != c {
			t.Fatalf("recovery made %+v of %+v", after[g], c)
		}
	}
}

func victimRegion(t *testing.T) (*shmem.Region, *Wksp) {
	if raceBuild {
		t.Skip("the race detector does not see mapped memory")
	}
	size, err := Footprint(200, 1<<18)
	ok(t, err)
	r := region(t, size)
	ok(t, New(r.Mem(), "victim", 200, 1<<18, 9))
	return r, join(t, r.Mem())
}

// TestKilled: processes that mutate a workspace are killed at any moment; each next one finds it whole.
func TestKilled(t *testing.T) {
	r, w := victimRegion(t)
	rnd := rand.New(rand.NewPCG(testSeed(t), 4))
	known := map[uint64]claim{}
	unfinished := 0
	for i := range 25 {
		words := runVictim(t, r.Name(), uint64(i), 0, 1+rnd.IntN(300))
		if o, _ := w.Owner(); o.Op != OpNone {
			unfinished++
		}
		aftermath(t, w, known, words)
	}
	t.Logf("%d of 25 victims died inside an operation, %d allocations are left", unfinished, len(known))
}

// TestOwnerStopped: an owner that is alive but stands still is told from a dead one; its death is noticed at once.
func TestOwnerStopped(t *testing.T) {
	r, w := victimRegion(t)
	lk, err := r.Mem().Lock(lockOff)
	ok(t, err)
	w.Patience = 5 * time.Millisecond
	_, err = w.Alloc(0, 1, 1)
	want(t, err, ErrBusy)
	if o, _ := w.Owner(); !o.Held || o.Pid != os.Getpid() {
		t.Fatalf("owner %+v", o)
	}
	ok(t, lk.Unlock())
	_, err = w.Alloc(0, 1, 1)
	ok(t, err)
}

// TestReadOnlyRegion: a join of a region that is mapped read-only reads, and is refused all else without a fault.
func TestReadOnlyRegion(t *testing.T) {
	r, w := victimRegion(t)
	o, err := w.NewNamed("a", 0, 10, 1)
	ok(t, err)
	ro, err := shmem.Open(r.Name(), shmem.ReadOnly)
	ok(t, err)
	defer ro.Leave()
	rw := join(t, ro.Mem())
	if got, err := rw.Lookup("a"); err != nil || got.Gaddr != o.Gaddr || !got.Mem.ReadOnly() {
		t.Fatalf("Lookup = %+v, %v", got, err)
	}
	ok(t, rw.Verify())
	want(t, rw.Free(o.Gaddr), ErrReadOnly)
	want(t, New(ro.Mem(), "x", 1, 1, 0), ErrReadOnly)
	want(t, Delete(ro.Mem()), ErrReadOnly)
}

// TestNewInInit: a region can be published with its workspace in it, or not at all.
func TestNewInInit(t *testing.T) {
	if raceBuild {
		t.Skip("the race detector does not see mapped memory")
	}
	size, err := Footprint(20, 1<<16)
	ok(t, err)
	name := fmt.Sprintf("wksp-init.%d", os.Getpid())
	r, err := shmem.Create(name, size, shmem.Options{Init: func(m shmem.Mem) error {
		if err := New(m, "init", 20, 1<<16, 1); err != nil {
			return err
		}
		w, err := Join(m)
		if err != nil {
			return err
		}
		_, err = w.NewNamed("first", 0, 100, 1)
		return err
	}})
	ok(t, err)
	defer func() {
		ok(t, r.Leave())
		ok(t, shmem.Unlink(name, false))
	}()
	_, err = join(t, r.Mem()).Lookup("first")
	ok(t, err)
}
