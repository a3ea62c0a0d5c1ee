package ctl

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/shmem"
)

// ShmemCmd returns the verbs about regions of shared memory, whatever lies in them.
func ShmemCmd() *cobra.Command {
	return family("shmem", "Make, show and remove regions of shared memory",
		`A region is a file tilewire.NAME on a hugetlbfs or tmpfs mount that processes map. What lies in it is the business of others:
`+"`tilewire wksp`"+` is for workspaces. Who is joined is known from the kernel's locks, exactly, whatever crashed. These verbs need no
daemon. Sizes may have a unit: 4096, 64K, 32MiB, 1G.`,
		shmemCreateCmd(), shmemUnlinkCmd(), shmemListCmd(), shmemJoinersCmd(), shmemPreflightCmd(), shmemReapCmd())
}

// explainRegion adds the command that mends it, where one is known and err does not name it.
func explainRegion(name string, err error) error {
	switch {
	case errors.Is(err, shmem.ErrNotFound):
		return fmt.Errorf("%w; mend: `tilewire shmem list` shows the regions there are", err)
	case errors.Is(err, shmem.ErrJoined):
		return fmt.Errorf("%w; mend: end them first, or give --force: they keep the memory, nobody else finds it", err)
	case errors.Is(err, shmem.ErrExists):
		return fmt.Errorf("%w; mend: take another name, or `tilewire shmem unlink %s`", err, name)
	}
	return err
}

type createdJSON struct {
	Name     string `json:"name"`
	Path     string `json:"path"`
	Size     uint64 `json:"size"`
	PageSize uint64 `json:"page_size"` // in use, as measured
	Backing  string `json:"backing"`
	Fallback string `json:"fallback"` // why not the best pages asked for; empty if they are
}

func shmemCreateCmd() *cobra.Command {
	var b backing
	var size sizeFlag
	cmd := &cobra.Command{
		Use: "create NAME --size SIZE", Short: "Make a region of zeroes on the best pages there are",
		Example: `  tilewire shmem create scratch --size 64M
  tilewire shmem create big --size 2G --page-size gigantic --strict --mode 0640 --gid 1000`,
		Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := b.options()
			if err != nil {
				return err
			}
			if size == 0 {
				return usagef("shmem create %s: how large? Give --size", args[0])
			}
			r, err := shmem.Create(args[0], uint64(size), o)
			if err != nil {
				return explainRegion(args[0], err)
			}
			v := createdJSON{r.Name(), r.Path(), r.Size(), r.PageSize(), r.Backing(), r.Fallback()}
			if err := r.Leave(); err != nil {
				return err
			}
			return emit(cmd, v, func(w io.Writer) {
				t := newPairs()
				t.add("name", v.Name)
				t.add("path", v.Path)
				t.add("size", v.Size)
				t.add("page-size", v.PageSize)
				t.add("backing", v.Backing)
				if v.Fallback != "" {
					t.add("fallback", v.Fallback)
				}
				t.write(w)
			})
		},
	}
	cmd.Flags().Var(&size, "size", "bytes; rounded up to pages")
	b.flags(cmd)
	addJSON(cmd)
	return cmd
}

func shmemUnlinkCmd() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "unlink NAME...", Short: "Remove regions; the memory goes with the last who is joined",
		Args: argCount(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			done, failed := []string{}, error(nil)
			for _, name := range args {
				if err := shmem.Unlink(name, force); err != nil {
					failed = errors.Join(failed, explainRegion(name, err))
					continue
				}
				done = append(done, name)
			}
			v := struct {
				Unlinked []string `json:"unlinked"`
			}{done}
			return errors.Join(emit(cmd, v, namesText(done)), failed)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also while processes are joined")
	addJSON(cmd)
	return cmd
}

// namesText writes one name a line.
func namesText(names []string) func(io.Writer) {
	return func(w io.Writer) {
		for _, n := range names {
			fmt.Fprintln(w, n)
		}
	}
}

// infoJSON is a region as its file shows it.
type infoJSON struct {
	Name     string       `json:"name"`
	Path     string       `json:"path"`
	Size     uint64       `json:"size"`
	PageSize uint64       `json:"page_size"` // of the file system; transparent huge pages show only in a join
	Backing  string       `json:"backing"`
	Mode     string       `json:"mode"` // octal
	Uid      int          `json:"uid"`
	Gid      int          `json:"gid"`
	Joiners  []joinerJSON `json:"joiners"` // null: not known, state says why
	State    string       `json:"state"`   // joined, idle, or what is wrong with it
}

func shmemListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List the regions of this host",
		Long: `Lists the regions of this host, mount by mount. STATE is joined; idle: nobody is joined, so it was made for later or is what a
crash of all its processes left; or what is wrong with it. JOINERS are pids, (ro) for those that cannot write, ? if this user
may not know. Mounts that this user may not read are left out.`,
		Args: argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			infos, err := shmem.List()
			if err != nil {
				return err
			}
			list := []infoJSON{}
			for _, in := range infos {
				v := infoJSON{in.Name, in.Path, in.Size, in.PageSize, in.Backing, fmt.Sprintf("%04o", uint32(in.Mode)),
					in.Uid, in.Gid, joinersJSON(in.Joiners), "idle"}
				switch {
				case in.Err != nil:
					v.State = in.Err.Error()
				case len(in.Joiners) > 0:
					v.State = "joined"
				}
				list = append(list, v)
			}
			return emit(cmd, list, func(w io.Writer) {
				t := newTable("NAME", ">SIZE", ">PAGE", "MODE", ">UID", ">GID", "JOINERS", "PATH", "STATE")
				for _, v := range list {
					t.add(v.Name, v.Size, v.PageSize, v.Mode, v.Uid, v.Gid, joinersCell(v), v.Path, v.State)
				}
				t.write(w)
				if slices.ContainsFunc(list, func(v infoJSON) bool { return v.State == "idle" }) {
					fmt.Fprintln(w, "idle: made for later, or left by a crash; `tilewire shmem reap NAME` removes it")
				}
			})
		},
	}
	addJSON(cmd)
	return cmd
}

// joinersCell is who is joined as one word.
func joinersCell(v infoJSON) string {
	if v.Joiners == nil {
		return "?"
	}
	var who []string
	for _, j := range v.Joiners {
		who = append(who, fmt.Sprint(j.Pid)+map[bool]string{true: "(ro)"}[j.Access == "ro"])
	}
	return strings.Join(who, ",")
}

func shmemJoinersCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "joiners NAME", Short: "Show who is joined to a region at this moment",
		Long: `Shows who is joined to a region: pid, access, command. The pid is that of the joiner's own PID namespace; the command is looked up in
ours. A process that is killed is gone from the list at once.`,
		Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			js, err := shmem.Joiners(args[0])
			if err != nil {
				return explainRegion(args[0], err)
			}
			type who struct {
				joinerJSON
				Command string `json:"command"`
			}
			v := []who{}
			for _, j := range joinersJSON(js) {
				comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", j.Pid))
				v = append(v, who{j, strings.TrimSpace(string(comm))})
			}
			return emit(cmd, v, func(w io.Writer) {
				t := newTable(">PID", "ACCESS", "COMMAND")
				for _, j := range v {
					t.add(j.Pid, j.Access, j.Command)
				}
				t.write(w)
			})
		},
	}
	addJSON(cmd)
	return cmd
}

func shmemReapCmd() *cobra.Command {
	var all, dry bool
	cmd := &cobra.Command{
		Use: "reap (NAME... | --all)", Short: "Remove regions that nobody is joined to, as a crash leaves them",
		Long: `Removes those of the named regions, or of all, that nobody is joined to, and prints their names. With --all, regions that are joined or
belong to others are passed over; with names, each that cannot be removed is told, and the status is not 0. A region that was made to
be joined later looks the same as one that was left by a crash: --all takes it too, --dry-run shows it.`,
		Args: argCount(0, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usagef("shmem reap: give the names of regions, or --all")
			}
			for _, n := range args {
				if err := shmem.CheckName(n); err != nil {
					return err
				}
			}
			names, err := reap(args, dry)
			v := struct {
				Reaped []string `json:"reaped"`
				DryRun bool     `json:"dry_run"`
			}{append([]string{}, names...), dry}
			return errors.Join(emit(cmd, v, namesText(names)), err)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all regions of this host")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only print the names")
	addJSON(cmd)
	return cmd
}

// ReapHint names the regions of this user that nobody is joined to and the command that frees them, for an error that
// says that memory is short; empty if there are none.
func ReapHint() string {
	infos, _ := shmem.List()
	var size uint64
	var names []string
	for _, in := range infos {
		if len(in.Joiners) == 0 && in.Err == nil && (in.Uid == os.Geteuid() || os.Geteuid() == 0) {
			names = append(names, in.Name)
			size += in.Size
		}
	}
	if names == nil {
		return ""
	}
	return fmt.Sprintf("; nobody is joined to %d MiB of it: `tilewire shmem reap %s` frees them", size>>20, strings.Join(names, " "))
}

// reap removes the named regions, or all, that nobody is joined to; with dry it only returns their names. A named one that
// stays is an error.
func reap(names []string, dry bool) (reaped []string, err error) {
	if !dry && len(names) == 0 {
		return shmem.Reap()
	}
	if !dry {
		for _, n := range names { // one by one, for the mend of each
			done, e := shmem.Reap(n)
			reaped, err = append(reaped, done...), errors.Join(err, explainReap(n, e))
		}
		return reaped, err
	}
	infos, err := shmem.List()
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, in := range infos {
		named := slices.Contains(names, in.Name)
		seen[in.Name] = true
		switch {
		case len(names) > 0 && !named:
		case in.Err == nil && len(in.Joiners) == 0:
			reaped = append(reaped, in.Name)
		case named && in.Err != nil:
			err = errors.Join(err, explainReap(in.Name, in.Err))
		case named:
			err = errors.Join(err, explainReap(in.Name, fmt.Errorf("%w: %s by %s", shmem.ErrJoined, in.Path, joinersText(in.Joiners))))
		}
	}
	for _, n := range names {
		if !seen[n] {
			err = errors.Join(err, explainReap(n, fmt.Errorf("%w: %s", shmem.ErrNotFound, n)))
		}
	}
	return reaped, err
}

// explainReap is explainRegion for a verb that has no --force.
func explainReap(name string, err error) error {
	switch {
	case errors.Is(err, shmem.ErrJoined):
		return fmt.Errorf("%w; mend: end them first, or `tilewire shmem unlink --force %s`: they keep the memory, nobody else finds it", err, name)
	case errors.Is(err, shmem.ErrNotRegion):
		return fmt.Errorf("%w; mend: `tilewire shmem unlink --force %s` removes the file", err, name)
	case errors.Is(err, shmem.ErrPermission):
		return fmt.Errorf("%w; mend: run it as the region's owner, or by sudo", err)
	}
	return explainRegion(name, err)
}
