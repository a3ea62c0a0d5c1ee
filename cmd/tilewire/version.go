package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/httpsrv"
)

// version names the build, and the layout that decides which memory it joins.
type version struct {
	Version  string `json:"version"`
	Revision string `json:"revision"` // of the sources, 12 digits; "" if it is not known
	Layout   string `json:"layout"`
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

func thisVersion() version {
	v := version{Version: "devel", Layout: httpsrv.LayoutName(), Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if bi, ok := debug.ReadBuildInfo(); ok {
		if bi.Main.Version != "" && bi.Main.Version != "(devel)" {
			v.Version = bi.Main.Version
		}
		for _, s := range bi.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				v.Revision = s.Value[:12]
			}
		}
	}
	return v
}

// versionText is the version in a line.
func versionText() string {
	v := thisVersion()
	name := v.Version
	if v.Revision != "" {
		name += " " + v.Revision
	}
	return fmt.Sprintf("tilewire %s, layout %s, %s %s/%s", name, v.Layout, v.Go, v.OS, v.Arch)
}

func versionCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "version", Short: "Print the program's version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return json.NewEncoder(os.Stdout).Encode(thisVersion())
			}
			fmt.Println(versionText())
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document with stable keys")
	return cmd
}
