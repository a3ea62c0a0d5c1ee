package ctl

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/shmem"
)

// The scripts in testdata run this test binary under other names:
//
//	tilewire      a program of these verbs, with main's handling of errors
//	joined R CMD  runs CMD while being joined to region R for reading and writing
//	playing CMD   runs CMD while an instance called cnc is there, whose tile mine:2 the program plays (net:0 nobody does)
//	wound R OFF V writes the 64-bit word V at offset OFF of region R, as a crash or a bad program would
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"tilewire": func() { os.Exit(program(os.Args[1:])) },
		"joined":   func() { os.Exit(joined(os.Args[1], os.Args[2:])) },
		"playing":  func() { os.Exit(playing(os.Args[1:])) },
		"wound":    wound,
	})
}

func program(args []string) int {
	root := &cobra.Command{Use: "tilewire", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(Commands()...)
	root.SetArgs(args)
	err := root.Execute()
	if err != nil {
		fmt.Fprintf(os.Stderr, "tilewire: %v\n", err)
	}
	return ExitCode(err)
}

func joined(name string, args []string) int {
	r, err := shmem.Open(name, shmem.ReadWrite)
	if err != nil {
		fmt.Fprintln(os.Stderr, "joined:", err)
		return 99
	}
	defer r.Leave()
	return runs(args)
}

// runs runs a program and returns its exit status.
func runs(args []string) int {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err := cmd.Run()
	if e := (*exec.ExitError)(nil); errors.As(err, &e) {
		return e.ExitCode()
	}
	if err != nil {
		return 99
	}
	return 0
}

func wound() {
	r, err := shmem.Open(os.Args[1], shmem.ReadWrite)
	if err != nil {
		fmt.Fprintln(os.Stderr, "wound:", err)
		os.Exit(99)
	}
	off, _ := strconv.ParseUint(os.Args[2], 0, 64)
	val, _ := strconv.ParseUint(os.Args[3], 0, 64)
	binary.LittleEndian.PutUint64(r.Mem().Bytes()[off:], val)
	os.Exit(0)
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			dir, err := os.MkdirTemp("/dev/shm", "tilewire-ctl-")
			if err != nil {
				dir, err = os.MkdirTemp("", "tilewire-ctl-")
			}
			env.Defer(func() { os.RemoveAll(dir) })
			env.Setenv(shmem.EnvDirs, dir)
			env.Setenv("SHM", dir)
			env.Setenv("GORACE", "atexit_sleep_ms=0") // or each program takes a second more under -race
			return err
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":   exits,
			"capture": capture,
			"json":    checkJSON,
		},
		RequireExplicitExec: true,
	})
}

// exits N CMD ...: the program ends with status N; its output is there for stdout and stderr.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N CMD ...")
	}
	err, code := ts.Exec(args[1], args[2:]...), 0
	if e := (*exec.ExitError)(nil); errors.As(err, &e) {
		code = e.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit status %d, want %s", code, args[0])
	}
}

// capture VAR: the environment variable VAR becomes the last stdout without its newline.
func capture(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strings.TrimSuffix(ts.ReadFile("stdout"), "\n"))
}

// json PATH VALUE: in the document on the last stdout, the value at PATH (keys and indices joined by dots) prints as
// VALUE; without VALUE it is only there. With '!', it is not there.
func checkJSON(ts *testscript.TestScript, neg bool, args []string) {
	d := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	d.UseNumber()
	var v any
	ts.Check(d.Decode(&v))
	found := true
	for _, key := range strings.Split(args[0], ".") {
		switch x := v.(type) {
		case map[string]any:
			v, found = x[key]
		case []any:
			i, err := strconv.Atoi(key)
			if found = err == nil && i < len(x); found {
				v = x[i]
			}
			if key == "len" {
				v, found = len(x), true
			}
		default:
			found = false
		}
		if !found {
			break
		}
	}
	switch {
	case found == neg:
		ts.Fatalf("%s: there is %v, want %v", args[0], found, !neg)
	case len(args) > 1 && fmt.Sprint(v) != args[1]:
		ts.Fatalf("%s is %v, want %s", args[0], v, args[1])
	}
}

// TestEveryVerbInJSON: each verb has --json, and a script runs it so and looks into what it prints.
func TestEveryVerbInJSON(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	more, err2 := filepath.Glob("testdata/configure/*.txtar")
	if err != nil || err2 != nil || len(files) == 0 || len(more) == 0 {
		t.Fatal(files, err, more, err2)
	}
	var scripts strings.Builder
	for _, f := range append(files, more...) {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		scripts.Write(b)
	}
	root := &cobra.Command{Use: "tilewire"}
	root.AddCommand(Commands()...)
	n := 0
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if c.HasSubCommands() {
			return
		}
		n++
		if c.Flags().Lookup("json") == nil {
			t.Errorf("%s has no --json", c.CommandPath())
		}
		if !regexp.MustCompile(`(?m)^(exec|exits \d).* ` + c.CommandPath() + `\b.* --json.*\n(std|json )`).MatchString(scripts.String()) {
			t.Errorf("no script looks into what %s --json prints", c.CommandPath())
		}
	}
	walk(root)
	if n < 22 {
		t.Errorf("only %d verbs", n)
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]uint64{
		"0": 0, "1": 1, "4096": 4096, "0x1000": 4096, "1k": 1024, "64K": 65536, "64KiB": 65536, "64 kb": 65536, "1M": 1 << 20,
		"3GiB": 3 << 30, "2T": 2 << 40, "5B": 5, "0xB": 11, "16383T": 16383 << 40,
	} {
		if got, err := parseSize(s); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "K", "-1", "1.5M", "1Q", "99999999999999999999", "18446744073709551615K", "0x", "1 2"} {
		if got, err := parseSize(s); !errors.Is(err, ErrUsage) {
			t.Errorf("parseSize(%q) = %d, %v, want ErrUsage", s, got, err)
		}
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	tab := newTable("NAME", ">SIZE", "WHAT")
	tab.add("a", 7, "x")
	tab.add("long", 1234567)
	tab.write(&b)
	if want := "NAME     SIZE  WHAT\na           7  x\nlong  1234567  -\n"; b.String() != want {
		t.Errorf("table is\n%s\nwant\n%s", b.String(), want)
	}
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 64 << 20: "64 MiB", 1 << 40: "1 TiB"} {
		if got := sizeText(n); got != want {
			t.Errorf("sizeText(%d) = %s, want %s", n, got, want)
		}
	}
}
