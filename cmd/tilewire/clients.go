package main

import (
	"encoding/json"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/cmd/tilewire/admin"
	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/shmem"
)

func clientsCmd() *cobra.Command {
	q := admin.DefaultQuery
	var name string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "clients", Short: "Who is connected, how far behind, and where each connection stands", Args: cobra.NoArgs,
		Long: `List the connections of an instance, those furthest behind first, or with --state closed
those that are gone. It reads the instance's
memory and asks nobody: also when tiles are stuck, or dead.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in, err := instance.Join(name, shmem.ReadOnly)
			if err != nil {
				return err
			}
			if q.State == "closed" && !cmd.Flags().Changed("sort") {
				q.Sort = "time"
			}
			doc, text, err := admin.Look(in, q)
			if errors.Is(err, admin.ErrQuery) {
				err = usageError{err}
			}
			if err = errors.Join(err, in.Leave()); err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(os.Stdout)
				e.SetIndent("", "  ")
				return e.Encode(doc)
			}
			text(os.Stdout)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "name of the instance; not needed while only one is there")
	f.StringVar(&q.Sort, "sort", q.Sort, "lag (messages behind), age (oldest first) or bytes (sent); of closed ones also time (the last first), which is their default")
	f.IntVar(&q.Limit, "limit", q.Limit, "rows at most")
	f.StringVar(&q.State, "state", q.State, "open, or closed: the last 256 of each network tile that are gone, with the reason")
	f.BoolVar(&asJSON, "json", false, "print one JSON document with stable keys")
	return cmd
}
