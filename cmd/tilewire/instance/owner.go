package instance

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/tilewire/tilewire/shmem"
)

// Own is OwnFor the zero User.
func (in *Instance) Own() error { return in.OwnFor(User{}) }

// OwnFor takes the role of the instance's supervisor, which the kernel frees when
// this process ends, and sees to the run directory. Producers that joined may be
// there already: they go on under the new supervisor. Errors: ErrTaken with the
// holder; ErrForeign for the region of another user than this and the tiles' (u),
// whose word decides what is opened and removed here. The word of the tiles' user is not
// taken for where the run directory is.
func (in *Instance) OwnFor(u User) error {
	if in.own != nil {
		return nil
	}
	if in.file == nil {
		return fmt.Errorf("%w called %q: it was removed meanwhile", ErrNone, in.Info.Name)
	}
	switch uid := owner(in.file); {
	case uid == os.Geteuid():
	case !u.Set() || uid != int(u.Uid):
		return fmt.Errorf("%w: %s belongs to user %d", ErrForeign, in.Region.Path(), uid)
	default:
		if dir, err := runDirPath(in.Info.Name); err != nil || in.Info.RunDir != dir {
			return fmt.Errorf("%w: %s of user %d says that its run directory is %s", ErrForeign, in.Region.Path(), uid, in.Info.RunDir)
		}
	}
	l, err := in.info.Lock(0)
	if errors.Is(err, shmem.ErrLocked) {
		return takenError(in.Info.Name)
	}
	if err != nil {
		return err
	}
	if err := checkRunDir(in.Info.RunDir, u); err != nil {
		_ = l.Unlock()
		return err
	}
	in.own = l
	in.life.l.pid.Store(uint64(os.Getpid()))
	return nil
}

// Owned reports whether a supervisor has the instance now.
func (in *Instance) Owned() bool { return in.info.Locked(0) }

// Supervisor returns the pid of the supervisor that has the instance now, 0: there is none, -1: not yet known.
func (in *Instance) Supervisor() int { return in.info.Holder(0) }

// Ended reports whether the instance was removed: what is published reaches
// nobody any more.
func (in *Instance) Ended() bool {
	now, err := os.Stat(in.Region.Path())
	return err != nil || in.file == nil || !os.SameFile(now, in.file)
}

// Leave ends the join. The instance stays for others.
func (in *Instance) Leave() error {
	var err error
	if in.own != nil {
		err = in.own.Unlock()
		in.own = nil
	}
	in.Server.Leave()
	in.Wksp.Leave()
	return errors.Join(err, in.Region.Leave())
}

// Remove removes the instance, of which this process is the supervisor, and
// leaves it. Producers that are joined keep their mapping until they find that
// it has Ended; nobody can join any more.
func (in *Instance) Remove() error {
	if in.own == nil {
		return errors.Join(fmt.Errorf("%w: not its supervisor", ErrTaken), in.Leave())
	}
	removeRunDir(in.Info.RunDir) // before the name is free for another instance with the same directory
	err := shmem.Unlink(in.Info.Name, true)
	return errors.Join(err, in.Leave())
}

// Delete removes what is left of the instance called name. Unless force it is
// refused while anybody is joined (shmem.ErrJoined with the pids). If others have
// removed its memory, that is the run directory. ErrNone: there is none.
func Delete(name string, force bool) error {
	dir := ""
	if in, err := Join(name, shmem.ReadOnly); err == nil {
		own, _ := runDirPath(name)
		if in.file != nil && (owner(in.file) == os.Geteuid() || in.Info.RunDir == own) {
			dir = in.Info.RunDir
		}
		if err := in.Leave(); err != nil {
			return err
		}
	}
	err := shmem.Unlink(name, force)
	if errors.Is(err, shmem.ErrNotFound) {
		if removeLeft(name) {
			return nil
		}
		return fmt.Errorf("%w called %q: %w", ErrNone, name, err)
	}
	if err == nil && dir != "" {
		removeRunDir(dir)
	}
	return err
}

// Sweep removes what crashes left of instances called BASE-PID: those that nobody is joined to, and that were not made
// to be run later.
func Sweep(base string) error {
	_, err := sweep(func(name string) bool {
		pid, ok := strings.CutPrefix(name, base+"-")
		_, e := strconv.ParseUint(pid, 10, 32)
		return ok && e == nil
	})
	return err
}

// Unlink takes the instance's name and run directory away from under those who are joined, who are about to die: for an end that
// waits for nobody.
func (in *Instance) Unlink() {
	_ = shmem.Unlink(in.Info.Name, true)
	_ = os.RemoveAll(in.Info.RunDir)
}

// Clean removes what crashes left of any instance of this user's, as Sweep does, and returns their names; also run directories and
// admin sockets without any memory.
func Clean() (names []string, err error) {
	defer tidy()
	return sweep(func(string) bool { return true })
}

func sweep(which func(name string) bool) (gone []string, err error) {
	all, err := shmem.List()
	for _, i := range all {
		if !which(i.Name) || i.Err != nil || len(i.Joiners) > 0 || i.Uid != os.Geteuid() {
			continue
		}
		in, e := Join(i.Name, shmem.ReadOnly)
		if e != nil {
			if ofAnotherBuild(i.Name, e) {
				if reaped, e := shmem.Reap(i.Name); e == nil && len(reaped) > 0 {
					gone = append(gone, i.Name)
				}
			}
			continue
		}
		keep := in.keeps()
		if e = in.Leave(); e != nil || keep {
			err = errors.Join(err, e)
			continue
		}
		switch e = Delete(i.Name, false); {
		case e == nil:
			gone = append(gone, i.Name)
		case !errors.Is(e, shmem.ErrJoined) && !errors.Is(e, ErrNone): // another start was quicker
			err = errors.Join(err, e)
		}
	}
	return gone, err
}
