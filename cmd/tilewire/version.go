package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/tilewire/tilewire/httpsrv"
)

// versionText names the build, and the layout that decides which memory it joins.
func versionText() string {
	v := "devel"
	if bi, ok := debug.ReadBuildInfo(); ok {
		if bi.Main.Version != "" && bi.Main.Version != "(devel)" {
			v = bi.Main.Version
		}
		for _, s := range bi.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				v += " " + s.Value[:12]
			}
		}
	}
	return fmt.Sprintf("tilewire %s, layout %s, %s %s/%s", v, httpsrv.LayoutName(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
