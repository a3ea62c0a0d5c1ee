package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/cmd/tilewire/echo"
)

func echoCmd() *cobra.Command {
	var o echo.Options
	cmd := &cobra.Command{
		Use: "echo", Short: "Give back every request and message: the server for conformance tests", Args: cobra.NoArgs, Hidden: true,
		Long: fmt.Sprintf(`Serve on any path: GET, HEAD and OPTIONS answer 200 with OK, POST and PUT 200 with
the request's body (requests of up to 1 MiB), and a WebSocket gets each message back, with its type.
It prints "listening ADDR:PORT" and ends at SIGTERM or SIGINT, closing clients with 1001.
--max-message is %d to %d bytes; a longer one is closed with 1009.`, echo.MinMessage, echo.MaxMessage),
		RunE: func(*cobra.Command, []string) error {
			ctx, cancel := stopOnSignal()
			defer cancel()
			s, err := echo.New(o)
			if err != nil {
				return listenError(o.Listen, err)
			}
			fmt.Println("listening", s.Addr())
			return s.Run(ctx)
		},
	}
	cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:8080", "`ADDR:PORT` to serve")
	cmd.Flags().IntVar(&o.MaxMessage, "max-message", echo.DefaultMessage, "greatest message of a client in `BYTES`")
	return cmd
}
