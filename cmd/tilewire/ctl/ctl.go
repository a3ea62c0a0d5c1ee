package ctl

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Commands returns the control verbs, to be added to the program's root command.
func Commands() []*cobra.Command {
	return []*cobra.Command{WkspCmd(), ShmemCmd(), ConfigureCmd(), MemCmd(), PsCmd(), CncCmd()}
}

// family makes a command that does nothing but hold others.
func family(use, short, long string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Long: long, Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			var names []string
			for _, v := range c.Commands() {
				names = append(names, v.Name())
			}
			return usagef("%q is no verb of %s; these are: %s", args[0], c.CommandPath(), strings.Join(names, ", "))
		},
	}
	c.SetFlagErrorFunc(flagError)
	c.AddCommand(verbs...)
	return c
}

// flagError makes what the flag parser complains about bad usage.
func flagError(c *cobra.Command, err error) error { return usagef("%s: %v", c.CommandPath(), err) }

// argCount wants from least to most arguments; most < 0 is any number.
func argCount(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < least || most >= 0 && len(args) > most {
			return usagef("%s was given %d arguments; usage: %s", c.CommandPath(), len(args), c.UseLine())
		}
		return nil
	}
}

// plural writes n things, an s behind unless it is one.
func plural(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
