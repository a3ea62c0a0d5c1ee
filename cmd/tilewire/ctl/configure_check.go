package ctl

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// item is one thing that was looked at.
type item struct {
	Item   string `json:"item"`
	Status string `json:"status"` // ok, warn: works, but not as well; fail: huge pages cannot be had
	Text   string `json:"text"`
	Mend   string `json:"mend"`
}

type checkedJSON struct {
	OK    bool   `json:"ok"` // nothing fails
	Items []item `json:"items"`
}

func configureCheckCmd() *cobra.Command {
	var wa wanted
	cmd := &cobra.Command{
		Use: "check", Short: "Look whether this host gives huge pages to this user",
		Long: `Looks at all that huge pages depend on, for the user who asks: a line each, ok, warn or fail, with the command that mends it. Changes
nothing and needs no privilege. Status 3 if anything fails: Tilewire then runs on transparent huge pages or 4 KiB pages.`,
		Args: argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := wa.resolve(); err != nil {
				return err
			}
			v, err := configureCheck(&wa)
			if err != nil {
				return err
			}
			err = emit(cmd, v, func(w io.Writer) {
				t := newTable("STATUS", "ITEM", "WHAT")
				for _, i := range v.Items {
					t.add(i.Status, i.Item, i.Text)
				}
				t.write(w)
				for _, i := range v.Items {
					if i.Mend != "" {
						fmt.Fprintf(w, "mend %s: %s\n", i.Item, i.Mend)
					}
				}
			})
			if err != nil || v.OK {
				return err
			}
			var bad []string
			for _, i := range v.Items {
				if i.Status == "fail" {
					bad = append(bad, i.Item)
				}
			}
			return fmt.Errorf("%w for huge pages: %s; mend: sudo tilewire configure init%s", ErrNotConfigured, strings.Join(bad, ", "), wa.args())
		},
	}
	wa.flags(cmd)
	return cmd
}

// configureCheck looks at everything. Errors: ErrUsage.
func configureCheck(wa *wanted) (checkedJSON, error) {
	items, err := checkPages(wa)
	if err != nil {
		return checkedJSON{}, err
	}
	items = append(items, checkMount(wa)...)
	items = append(items, checkLimits(wa)...)
	items = append(items, checkShm(wa), checkThp(), checkMemlock(wa))
	v := checkedJSON{true, items}
	for _, i := range items {
		v.OK = v.OK && i.Status != "fail"
	}
	return v, nil
}

func checkPages(wa *wanted) ([]item, error) {
	p, total, free, err := wa.have()
	if errors.Is(err, ErrNotConfigured) {
		return []item{{"pages", "fail", "this kernel has no " + sizeText(wa.page) + " pages", "use another --page-size"}}, nil
	}
	if err != nil {
		return nil, err
	}
	i := item{"pages", "ok", fmt.Sprintf("%d of %d pages of %s are free, %d wanted", free, total, sizeText(wa.page), wa.pages()), ""}
	switch {
	case total < wa.pages():
		i.Status, i.Mend = "fail", fmt.Sprintf("echo %d | sudo tee %s", wa.pages(), p.File(wa.node))
	case free < wa.pages():
		i.Status, i.Text = "warn", i.Text+": the others are in use"
		i.Mend = fmt.Sprintf("echo %d | sudo tee %s   # if they are not yours", total+wa.pages()-free, p.File(wa.node))
	}
	items := []item{i}
	for _, n := range p.Nodes {
		i := item{fmt.Sprintf("node%d", n.Node), "ok", fmt.Sprintf("%d of %d pages are free", n.Free, n.Total), ""}
		if n.Barred {
			i.Status, i.Text = "warn", i.Text+", and this process's cpuset bars them"
			i.Mend = "add the node to cpuset.mems of the control group, or reserve on another: --node"
		}
		items = append(items, i)
	}
	return items, nil
}

func checkMount(wa *wanted) []item {
	dir, mounted := wa.findMount()
	if !mounted {
		user := *wa
		if gid := os.Getegid(); !user.hasGid && gid != 0 {
			user.hasGid, user.gid = true, uint64(gid)
		}
		return []item{{"mount", "fail", "no hugetlbfs with pages of " + sizeText(wa.page) + where(wa.mount), mountStep(&user, dir, nil).sudo()}}
	}
	items := []item{{"mount", "ok", "hugetlbfs with pages of " + sizeText(wa.page) + " on " + dir, ""}}
	perm := item{"permission", "ok", fmt.Sprintf("uid %d may make regions there", os.Geteuid()), ""}
	used := false
	for _, m := range shmem.Mounts() {
		if m.Dir == dir {
			used = true
			if m.Err != nil {
				perm = item{"permission", "fail", fmt.Sprintf("uid %d may not make regions there", os.Geteuid()), mendOf(m.Err)}
			}
			if m.Size > 0 && m.Size < uint64(wa.size) {
				items[0] = item{"mount", "fail", fmt.Sprintf("%s is limited to %s", dir, sizeText(m.Size)),
					fmt.Sprintf("sudo mount -o remount,size=%d %s", uint64(wa.size), dir)}
			}
		}
	}
	var fi unix.Stat_t
	if wa.hasGid && unix.Stat(dir, &fi) == nil && !groupMay(fi, uint32(wa.gid)) && perm.Status == "ok" {
		perm = item{"permission", "fail", fmt.Sprintf("group %d may not make regions there", wa.gid), "sudo tilewire configure init" + wa.args()}
	}
	if !used {
		items = append(items, item{"directories", "warn", dir + " is not one of " + shmem.EnvDirs, "export " + shmem.EnvDirs + "=" + dir + ":/dev/shm"})
	}
	return append(items, perm)
}

func where(dir string) string {
	if dir == "" {
		return " is mounted"
	}
	return " is mounted on " + dir
}

// sudo is the step's command as an ordinary user gives it.
func (s step) sudo() string { return "sudo sh -c '" + s.Command + "'" }

// checkLimits looks at the control groups that count these pages.
func checkLimits(wa *wanted) []item {
	p, _ := shmem.Preflight(uint64(wa.size), shmem.Options{Backing: shmem.BackingHugetlbfs, MaxPageSize: wa.page})
	i := item{"cgroup", "ok", "no control group limits huge pages", ""}
	if len(p.Ways) == 0 {
		return []item{i}
	}
	least := uint64(math.MaxUint64)
	for _, l := range p.Ways[0].Limits {
		if l.Free() >= least {
			continue
		}
		least = l.Free()
		i = item{"cgroup", "ok", fmt.Sprintf("%s leaves %s", l.File, sizeText(l.Free())), ""}
		if l.Free() < uint64(wa.size) {
			i.Status, i.Mend = "fail", fmt.Sprintf("echo %d | sudo tee %s", l.Max+uint64(wa.size)-l.Free(), l.File)
		}
	}
	return []item{i}
}

// checkShm looks at what is used where huge pages are short.
func checkShm(wa *wanted) item {
	for _, m := range shmem.Mounts() {
		if m.Hugetlbfs {
			continue
		}
		i := item{"shm", "ok", fmt.Sprintf("%s has %s free", m.Dir, sizeText(m.Free)), ""}
		switch {
		case m.Err != nil:
			i.Status, i.Text, i.Mend = "warn", m.Err.Error(), mendOf(m.Err)
		case m.Size == 0:
			i.Text = m.Dir + " has no limit"
		case m.Free < uint64(wa.size):
			i.Status, i.Text = "warn", i.Text+": less than "+sizeText(uint64(wa.size))+", should huge pages be short"
			i.Mend = fmt.Sprintf("sudo mount -o remount,size=%d %s (container: --shm-size)", m.Size+uint64(wa.size)-m.Free, m.Dir)
		}
		return i
	}
	if env := os.Getenv(shmem.EnvDirs); env != "" {
		return item{"shm", "warn", shmem.EnvDirs + " names no tmpfs: nothing to fall back on", "export " + shmem.EnvDirs + "=" + env + ":/dev/shm"}
	}
	return item{"shm", "warn", "no tmpfs on /dev/shm: nothing to fall back on", "sudo mount -t tmpfs -o mode=1777 tmpfs /dev/shm"}
}

// checkThp looks whether the kernel gives transparent huge pages on tmpfs when asked.
func checkThp() item {
	const file = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
	b, err := os.ReadFile(file)
	switch {
	case err != nil:
		return item{"thp", "warn", "this kernel has no transparent huge pages on tmpfs", ""}
	case strings.Contains(string(b), "[deny]"):
		return item{"thp", "warn", "shmem_enabled is deny: no transparent huge pages on tmpfs", "echo advise | sudo tee " + file}
	}
	return item{"thp", "ok", "transparent huge pages on tmpfs can be asked for (MADV_COLLAPSE)", ""}
}

// checkMemlock looks whether --mlock would work. Huge pages of hugetlbfs need none.
func checkMemlock(wa *wanted) item {
	err := shmem.CheckMlock(uint64(wa.size))
	if err == nil {
		return item{"memlock", "ok", "tmpfs pages may be locked (--mlock); huge pages of hugetlbfs always are", ""}
	}
	text, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "shmem: "), "; mend: ")
	return item{"memlock", "warn", text + " (huge pages of hugetlbfs need no --mlock)", mendOf(err)}
}
