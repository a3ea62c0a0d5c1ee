package shmem

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// EnvDirs is the environment variable that replaces the mounts regions live on: directories, colon separated, in the
// order they are tried. What each is (hugetlbfs, tmpfs, or a disk's file system, good for tests only) is found out.
const EnvDirs = "TILEWIRE_SHM_DIR"

// defaultShm is where POSIX shared memory lives on Linux (shm_overview(7)).
const defaultShm = "/dev/shm"

type mountKind uint8

const (
	kindTmpfs mountKind = iota
	kindHugetlbfs
	kindDisk // only when named by EnvDirs
)

// mount is a directory that can hold regions.
type mount struct {
	dir    string
	kind   mountKind
	page   uint64 // hugetlbfs: its page size; else 4 KiB
	capped bool   // total and free hold a limit of the mount itself
	total  uint64 // bytes
	free   uint64 // bytes
}

// String is for humans: kind and directory.
func (m mount) String() string {
	switch m.kind {
	case kindHugetlbfs:
		return "hugetlbfs " + m.dir
	case kindTmpfs:
		return "tmpfs " + m.dir
	}
	return "file system of " + m.dir
}

// findMounts returns the directories that can hold regions: those of EnvDirs if it is set, else /dev/shm and every
// hugetlbfs mount of this mount namespace. A directory that cannot be examined is left out.
func findMounts() []mount {
	if env := os.Getenv(EnvDirs); env != "" {
		return examineAll(strings.Split(env, ":"), func(mount) bool { return true })
	}
	info, _ := os.ReadFile("/proc/self/mountinfo")
	return append(examineAll([]string{defaultShm}, func(m mount) bool { return m.kind == kindTmpfs }),
		// A mount may be hidden by another on top of it: what counts is what lies there.
		examineAll(hugetlbfsDirs(string(info)), func(m mount) bool { return m.kind == kindHugetlbfs })...)
}

// Mount is a directory that can hold regions.
type Mount struct {
	Dir       string
	Hugetlbfs bool
	PageSize  uint64 // bytes; 4096 unless hugetlbfs
	Size      uint64 // bytes, the mount's own limit; 0: none
	Free      uint64 // bytes under that limit
	Err       error  // ErrPermission if this process may not create regions there
}

// Mounts returns the directories Create and Open look at, in their order: /dev/shm and every hugetlbfs mount of this
// mount namespace, or those that EnvDirs names.
func Mounts() []Mount {
	var out []Mount
	for _, m := range findMounts() {
		out = append(out, Mount{Dir: m.dir, Hugetlbfs: m.kind == kindHugetlbfs, PageSize: m.page, Size: m.total, Free: m.free, Err: m.writable()})
	}
	return out
}

// HugetlbfsDir returns where hugetlbfs with pages of size page is to be mounted when it is mounted nowhere: /dev/hugepages,
// as systemd does, or beside it if that has pages of another size.
func HugetlbfsDir(page uint64) string {
	const dir = "/dev/hugepages"
	if m, ok := examine(dir); page == PageHuge && !(ok && m.kind == kindHugetlbfs && m.page != page) {
		return dir
	}
	return dir + pageUnit(page)
}

// MountCommand returns the options of a hugetlbfs with pages of size page that the group gid may use by the permissions
// perm (gid below 0: its root's; perm 0: MountPerm for a group, else 0755), and the command of a root shell that mounts it on dir.
func MountCommand(dir string, page uint64, gid int, perm uint32) (options, command string) {
	options = "pagesize=" + pageUnit(page)
	if gid >= 0 {
		options += fmt.Sprintf(",gid=%d", gid)
	}
	if perm == 0 && gid >= 0 {
		perm = MountPerm
	} else if perm == 0 {
		perm = 0o755
	}
	options += fmt.Sprintf(",mode=%04o", perm)
	if !exists(dir) {
		command = "mkdir -p " + dir + " && "
	}
	return options, command + "mount -t hugetlbfs -o nosuid,nodev," + options + " none " + dir
}

// MountPerm is the permissions of a hugetlbfs for a group: its members make regions and cannot remove each other's.
const MountPerm = 0o1770

func pageUnit(page uint64) string {
	return strings.TrimSuffix(strings.ReplaceAll(bytesString(page), " ", ""), "iB")
}

// mountMend says what a hugetlbfs with pages of size page, which findMounts does not have, is not, and the command that
// changes it, for this process's group.
func mountMend(page uint64) (what, mend string) {
	env := os.Getenv(EnvDirs)
	info, _ := os.ReadFile("/proc/self/mountinfo")
	there := examineAll(hugetlbfsDirs(string(info)), func(m mount) bool { return m.kind == kindHugetlbfs && m.page == page })
	dir := HugetlbfsDir(page)
	if len(there) > 0 {
		dir = there[0].dir
	} else {
		gid := os.Getegid()
		if gid == 0 {
			gid = -1
		}
		_, cmd := MountCommand(dir, page, gid, 0)
		mend = "sudo sh -c '" + cmd + "'"
	}
	if env == "" {
		return "mounted", mend
	}
	if mend != "" {
		mend += "; "
	}
	return "among " + EnvDirs + "=" + env, mend + "export " + EnvDirs + "=" + dir + ":" + env
}

// missingDirs returns those of the directories env that cannot be examined.
func missingDirs(env string) (missing []string) {
	for _, dir := range strings.Split(env, ":") {
		if _, ok := examine(dir); !ok {
			missing = append(missing, dir)
		}
	}
	return missing
}

// examineAll examines those dirs that want accepts, each directory once: bind mounts show one under several names.
func examineAll(dirs []string, want func(mount) bool) (out []mount) {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	for _, dir := range dirs {
		var st unix.Stat_t
		m, ok := examine(dir)
		if !ok || !want(m) || unix.Stat(dir, &st) != nil || seen[inode{st.Dev, st.Ino}] {
			continue
		}
		seen[inode{st.Dev, st.Ino}] = true
		out = append(out, m)
	}
	return out
}

// examine asks the kernel what lies at dir. The page size of hugetlbfs is its block size, whatever its mount
// options say (fs/hugetlbfs/inode.c, hugetlbfs_statfs).
func examine(dir string) (mount, bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return mount{}, false
	}
	m := mount{dir: dir, page: PageNormal}
	blocks, avail := int64(st.Blocks), int64(st.Bavail)
	switch st.Type {
	case unix.HUGETLBFS_MAGIC:
		m.kind, m.page = kindHugetlbfs, uint64(st.Bsize)
	case unix.TMPFS_MAGIC:
		m.kind = kindTmpfs
	default:
		m.kind = kindDisk
	}
	// No limit shows as 0 blocks on tmpfs, as 0 or -1 on hugetlbfs.
	if m.capped = blocks > 0; m.capped {
		m.total, m.free = uint64(blocks)*uint64(st.Bsize), uint64(max(avail, 0))*uint64(st.Bsize)
	}
	return m, true
}

// mountEntry is a line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type mountEntry struct {
	root, dir, fsType string
	options           map[string]string // of the mount and of the super block, as a set
}

// parseMountinfo returns the well-formed lines of info.
func parseMountinfo(info string) []mountEntry {
	var out []mountEntry
	for line := range strings.Lines(info) {
		f := strings.Fields(line)
		sep := slices.Index(f, "-")
		if sep < 6 || len(f) < sep+4 {
			continue
		}
		e := mountEntry{root: unescapeMount(f[3]), dir: unescapeMount(f[4]), fsType: f[sep+1], options: map[string]string{}}
		for _, opt := range strings.Split(f[5]+","+f[sep+3], ",") {
			k, v, _ := strings.Cut(opt, "=")
			e.options[k] = v
		}
		out = append(out, e)
	}
	return out
}

// unescapeMount undoes the kernel's octal escapes of space, tab, newline and backslash.
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// mountPoint returns where the file system of dir is mounted, which a remount must name; dir itself if that is not known.
func mountPoint(dir string) string {
	abs, err := filepath.Abs(dir)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return dir
	}
	info, _ := os.ReadFile("/proc/self/mountinfo")
	point := ""
	for _, e := range parseMountinfo(string(info)) {
		if len(e.dir) >= len(point) && (e.dir == abs || strings.HasPrefix(abs, strings.TrimSuffix(e.dir, "/")+"/")) {
			point = e.dir
		}
	}
	if point == "" {
		return dir
	}
	return point
}

// hugetlbfsDirs returns the mount points of type hugetlbfs that are not mounted read-only.
func hugetlbfsDirs(info string) (dirs []string) {
	for _, e := range parseMountinfo(info) {
		if _, ro := e.options["ro"]; e.fsType == "hugetlbfs" && !ro {
			dirs = append(dirs, e.dir)
		}
	}
	return dirs
}

// writable returns ErrPermission with the mend unless this process may create files in the mount.
func (m mount) writable() error {
	if err := unix.Access(m.dir, unix.W_OK|unix.X_OK); err != nil {
		mend := fmt.Sprintf("sudo chown %d %s", os.Geteuid(), m.dir)
		if m.kind == kindHugetlbfs {
			mend = fmt.Sprintf("sudo chgrp %d %s && sudo chmod 1770 %s", os.Getegid(), m.dir, m.dir)
		}
		return fmt.Errorf("%w: uid %d may not create files in %s; mend: %s", ErrPermission, os.Geteuid(), m, mend)
	}
	return nil
}
