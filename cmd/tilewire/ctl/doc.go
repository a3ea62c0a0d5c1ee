// Package ctl holds the control verbs of the program: what makes, shows, mends and removes regions and the
// workspaces in them.
//
// # Model
//
// A verb is one cobra command that maps what it is about, does one thing, prints it, and leaves. It talks to no
// daemon: all it knows it reads from the regions themselves and from the kernel's locks, so it works beside a running
// instance and on what a crash left. Verbs that only read join read-only: they need no more than read permission, hold
// up nobody, and can harm nothing.
//
// # Output
//
// Text on stdout is either one value (wksp alloc prints the gaddr alone) or lines in columns for people and awk;
// --json prints one JSON document with keys that do not change. Errors go to stderr by the program's main: what was
// wrong, with figures, and the command that mends it. ExitCode tells the program's exit status for an error.
//
// # Limits
//
// Listing verbs join each region for a moment, which shows them as joiners to each other. JSON numbers are exact to
// 64 bits as written; a reader that keeps them in floating point loses digits of tags above 2^53.
package ctl
