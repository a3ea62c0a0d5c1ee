// Command jsonrpc is an application in a process of its own: a JSON-RPC 2.0
// subscription service that joins a running Tilewire instance through shared
// memory. The instance's network tile owns the sockets; this process gets the
// requests, opens, messages and closes of /rpc, and answers.
//
//	vmstat -n 1 | tilewire pipe --name main
//	jsonrpc --join main
//	curl -d '{"jsonrpc":"2.0","id":1,"method":"status"}' http://127.0.0.1:8080/rpc
//
// Over a WebSocket at /rpc there is more: subscribe to "messages" (each message
// that the instance's producer publishes) or to "ticks" (one a second), and
// unsubscribe. It may be killed and started again: WebSockets live on meanwhile.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
)

func main() {
	name := flag.String("join", "", "`NAME` of the running instance; may be left out if there is one only")
	id := flag.Int("app", 0, "number of the application to be")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*name, *id); err != nil {
		fmt.Fprintln(os.Stderr, "jsonrpc:", err)
		os.Exit(1)
	}
}

func run(name string, id int) error {
	in, err := instance.Join(name, shmem.ReadWrite)
	if err != nil {
		return err
	}
	defer in.Leave()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGINT, unix.SIGTERM)
	runtime.LockOSThread()

	s, err := newService(in.Server, in.Info.Name)
	if err != nil {
		return err
	}
	s.app, err = in.Server.TakeApp(id, httpsrv.AppOptions{BellPath: in.AppBell(id), Callbacks: s.callbacks()})
	if err != nil {
		return err
	}
	defer s.app.Release()
	fmt.Fprintf(os.Stderr, "jsonrpc: serves /rpc of instance %s\n", in.Info.Name)

	look := time.Now()
	for len(stop) == 0 {
		s.app.Poll(s.wait(time.Now()))
		now := time.Now()
		s.push(now)
		if now.Sub(look) > 500*time.Millisecond {
			if look = now; in.Ended() {
				return nil
			}
		}
	}
	return nil
}
