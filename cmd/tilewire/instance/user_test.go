package instance

import (
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
)

func TestLookupUser(t *testing.T) {
	if u, err := LookupUser(""); err != nil || u.Set() {
		t.Errorf("nobody in particular: %+v, %v", u, err)
	}
	if _, err := LookupUser("no-such-user"); !errors.Is(err, ErrUser) || !strings.Contains(err.Error(), "useradd") {
		t.Error(err)
	}
	self, err := user.Current()
	if err != nil {
		t.Skip(err)
	}
	for _, name := range []string{self.Username, self.Uid} {
		if u, err := LookupUser(name); err != nil || u.Set() {
			t.Errorf("this user itself: %+v, %v", u, err)
		}
	}
	if os.Geteuid() != 0 {
		if _, err := LookupUser("root"); !errors.Is(err, ErrUser) || !strings.Contains(err.Error(), "only root") {
			t.Error(err)
		}
		return
	}
	if u, err := LookupUser("nobody"); err != nil || !u.Set() || u.Uid == 0 || u.Gid == 0 || len(u.Groups) == 0 {
		t.Errorf("%+v, %v", u, err)
	}
}

// What was given to a user is owned and removed by root's next supervisor, but only where root would have put it.
func TestGiven(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give")
	}
	shm, run := dirs(t)
	for _, d := range []string{shm, filepath.Dir(run), filepath.Dir(filepath.Dir(run))} {
		if err := os.Chmod(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	u := User{Name: "them", Uid: 65534, Gid: 65533}
	in := create(t, "a")
	if err := in.Give(u); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{in.Region.Path(), in.Info.RunDir} {
		if fi, err := os.Stat(path); err != nil || owner(fi) != 65534 || group(fi) != 65533 || fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", path, fi, err)
		}
	}
	if err := in.Leave(); err != nil {
		t.Fatal(err)
	}
	join := func() *Instance {
		in, err := Join("a", 0)
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	in = join()
	if err := in.Own(); !errors.Is(err, ErrForeign) {
		t.Errorf("Own: %v", err)
	}
	in.Info.RunDir = t.TempDir() // as a tile of that user could have written it
	if err := in.OwnFor(u); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), in.Info.RunDir) {
		t.Errorf("OwnFor with a directory elsewhere: %v", err)
	}
	_ = in.Leave()
	in = join()
	if err := in.OwnFor(u); err != nil {
		t.Error(err)
	}
	if err := in.Remove(); err != nil {
		t.Error(err)
	}

	in = create(t, "a")
	if err := os.Chmod(shm, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := in.Give(u); !errors.Is(err, ErrUser) || !strings.Contains(err.Error(), shm) {
		t.Errorf("Give in a closed directory: %v", err)
	}
	if err := in.Remove(); err != nil {
		t.Error(err)
	}
	for _, d := range []string{shm, run} {
		if left, _ := filepath.Glob(d + "/*"); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}
