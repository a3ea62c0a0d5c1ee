package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/cmd/tilewire/config"
	"github.com/tilewire/tilewire/cmd/tilewire/instance"
)

// configCmd shows configurations: the built-in one with its explanations, or the one in force.
func configCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Show the configuration", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return usageError{errors.New("config: default or show?")} },
	}
	var path string
	show := &cobra.Command{
		Use: "show", Short: "Print every key with the value in force: environment over file over defaults", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, _, err := config.Load(path, os.Environ())
			if err != nil {
				return err
			}
			tellStrange()
			fmt.Print(c.TOML())
			return nil
		},
	}
	show.Flags().StringVar(&path, "config", "", "configuration `FILE`")
	cmd.AddCommand(show, &cobra.Command{
		Use: "default", Short: "Print the built-in configuration, every key explained", Args: cobra.NoArgs,
		Run: func(*cobra.Command, []string) { fmt.Print(config.DefaultFile) },
	})
	return cmd
}

func validateCmd() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "validate FILE", Short: "Check a configuration file, with the environment over it: what run would refuse",
		Args: func(cmd *cobra.Command, args []string) error {
			if file != "" {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if file == "" {
				file = args[0]
			}
			var r runFlags
			run := &cobra.Command{}
			r.flags(run)
			var err error
			if r.layers, err = configure(run, file); err != nil {
				return err
			}
			if _, err := instance.LookupUser(r.userName); err != nil {
				return r.blame(fmt.Errorf("--user: %w", err))
			}
			if err := r.check(); err != nil {
				return r.blame(err)
			}
			tellStrange()
			fmt.Printf("%s: good\n", file)
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "`FILE`, as run takes it")
	return cmd
}
