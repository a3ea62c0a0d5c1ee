package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// What a person sees on the command line: testdata/script/*.txtar.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", filepath.Dir(program)+string(filepath.ListSeparator)+os.Getenv("PATH"))
			e.Setenv("TILEWIRE_SHM_DIR", shmDir)
			e.Setenv("TILEWIRE_RUN_DIR", runDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exit": exitCmd},
	})
}

// exitCmd is `exit CODE COMMAND...`: the command must end with this code, and say one line on standard error unless
// it is 0.
func exitCmd(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exit CODE COMMAND...")
	}
	sh := append([]string{"-c", `"$@" 2>err; code=$?; cat err >&2; echo "exit $code"; ` +
		`[ $code = 0 ] || [ "$(wc -l <err)" = 1 ] || { echo "not one line" >&2; exit 99; }; [ $code = "$WANT" ]`, "sh"}, args[1:]...)
	ts.Setenv("WANT", args[0])
	if err := ts.Exec("sh", sh...); err != nil {
		ts.Fatalf("%v: want exit %s", args[1:], args[0])
	}
}
