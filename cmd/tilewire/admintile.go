package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/cmd/tilewire/admin"
	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/httpsrv/steer"
	"github.com/tilewire/tilewire/tile"
	"github.com/tilewire/tilewire/tile/sandbox"
	"github.com/tilewire/tilewire/tile/topo"
)

const (
	// defaultAdmin is a place that root can make; where it cannot be had the socket lies in the instance's run directory.
	defaultAdmin = "unix:/run/tilewire/{name}.sock"
	adminOff     = "off"
	// adminNice keeps what operators ask for behind what clients are served with.
	adminNice = 10
)

// checkAdmin says what is wrong with --admin-listen.
func checkAdmin(addr string) error {
	if addr == adminOff {
		return nil
	}
	if strings.HasPrefix(addr, "fd:") || httpsrv.CheckListen(addr) != nil {
		return usageError{fmt.Errorf("--admin-listen %q: unix:PATH, unix:PATH|MODE, ADDR:PORT, or off", addr)}
	}
	return nil
}

// listenAdmin makes the admin tile's socket, for its user alone unless addr says otherwise. A stale one of a crash is replaced, a
// live one is not. No file in the listeners: it is off.
func listenAdmin(addr string, in *instance.Instance) (l listeners, err error) {
	if addr == adminOff {
		return l, nil
	}
	byDefault := addr == defaultAdmin
	if byDefault {
		addr = "unix:" + in.AdminSocket()
		if dir := filepath.Dir(defaultAdmin[len("unix:"):]); os.Getenv("TILEWIRE_RUN_DIR") == "" && os.Geteuid() == 0 && os.MkdirAll(dir, 0o711) == nil {
			addr = defaultAdmin
		}
	}
	addr = strings.ReplaceAll(addr, "{name}", in.Info.Name)
	if strings.HasPrefix(addr, "unix:") && !strings.Contains(addr, "|") {
		addr += "|0600"
	}
	fd, actual, err := httpsrv.ListenSocket(addr, 0)
	if err != nil && byDefault { // nobody asked for it
		logger().Warn("no admin tile", "error", err.Error(), "mend", "--admin-listen unix:PATH")
		return l, nil
	}
	if err != nil {
		return l, adminListenError(addr, err)
	}
	return listeners{{addr: actual, files: []*os.File{unpolled(fd, actual)}, made: true}}, nil
}

// adminListenError is listenError in the words of this flag.
func adminListenError(addr string, err error) error {
	addr, _, _ = strings.Cut(addr, "|")
	err = listenError(addr, err)
	text := errors.New("admin: " + strings.ReplaceAll(err.Error(), "--listen", "--admin-listen"))
	if usage := (usageError{}); errors.As(err, &usage) {
		return usageError{text}
	}
	return text
}

// adminSpecs is how the admin tile is started, if it is not off. Clients do without it.
func adminSpecs(in *instance.Instance, l listeners, steering *os.File) ([]topo.Spec, error) {
	if len(l) == 0 {
		return nil, nil
	}
	files, args := l.of(0), []string{"--listen-fd", "3"}
	if steering != nil {
		files, args = append(files, steering), append(args, "--steering-fd", "4")
	}
	s, err := tileSpec(in, instance.Tile{Kind: kindAdmin}, tile.Float, files, args...)
	s.Optional = true
	return []topo.Spec{s}, err
}

// adminText tells people where the admin tile answers.
func adminText(l listeners) string {
	if len(l) == 0 {
		return ""
	}
	if path, ok := strings.CutPrefix(l[0].addr, "unix:"); ok {
		return fmt.Sprintf("  admin      curl --unix-socket %s http://localhost/statusz\n", path)
	}
	return fmt.Sprintf("  admin      http://%s/statusz\n", l[0].addr)
}

// adminTile answers operators. It reads shared memory; its death costs no client anything.
func adminTile(a tileArgs, fd, steering int) (err error) {
	in, cnc, err := a.enter(kindAdmin)
	if err != nil {
		return err
	}
	defer failed(cnc, &err)
	f := os.NewFile(uintptr(fd), "admin listener")
	l, err := net.FileListener(f)
	_ = f.Close()
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	var steered *steer.View
	if steering >= 0 {
		if steered, err = steer.Watch(steering); err != nil {
			return err
		}
	}
	s, err := admin.New(in, versionText(), steered)
	if err != nil {
		return err
	}
	if unix.Getpgrp() == os.Getpid() { // all threads of this process, and of no other
		_ = unix.Setpriority(unix.PRIO_PGRP, 0, adminNice)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	served := make(chan error, 1)
	loop := tile.Loop{Cnc: cnc, CPU: tile.Float}
	a.confine(&loop, sandbox.AdminCalls)
	confine := loop.Confine
	loop.Confine = func() error { // nobody is answered before
		if confine != nil {
			if err := confine(); err != nil {
				return err
			}
		}
		go func() { served <- s.Serve(ctx, l) }()
		return nil
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	over := false
	loop.Poll = func(_ int64, timeoutMs int) int { // the loop beats the heart and hears the word to halt
		timer.Reset(time.Duration(timeoutMs) * time.Millisecond)
		select {
		case <-timer.C:
		case err := <-served:
			over = true
			loop.Stop(errors.Join(errors.New("admin: the listener ended"), err))
		}
		return 0
	}
	if err := loop.Run(); err != nil || over {
		return err
	}
	stop()
	return <-served
}
