package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// server is one contestant: how it is built and started. args come before the flags of the protocol (package feed).
type server struct {
	name     string
	build    []string // command, run in scripts/bench; {} is the folder for programs
	command  []string // {} as above
	envelope string   // what the load generator must take off
}

func goServer(name string) server {
	return server{name: name, build: []string{"go", "build", "-o", "{}/" + name, "./" + name}, command: []string{"{}/" + name}}
}

var (
	limitBuild = []string{"gcc", "-O2", "-o", "{}/limit", "limit/limit.c"}
	servers    = []server{
		{name: "tilewire", build: []string{"go", "-C", "../..", "build", "-o", "{}/tilewire", "./cmd/tilewire"}, command: []string{"{}/tilewire", "benchserve"}},
		{name: "limit", build: limitBuild, command: []string{"{}/limit"}},
		{name: "each", build: limitBuild, command: []string{"{}/limit", "--each"}},
		goServer("goraw"), goServer("gorilla"), goServer("coder"), goServer("gws"), goServer("gobwas"),
		{name: "centrifuge", build: goServer("centrifuge").build, command: []string{"{}/centrifuge"}, envelope: "centrifuge"},
	}
)

// choose returns the servers named in list (comma separated; empty: all), and those given by hand as
// NAME=COMMAND, which speak the protocol of package feed too (another build of tilewire, say).
func choose(list string, extra []string) ([]server, error) {
	all := slices.Clone(servers)
	for _, e := range extra {
		name, command, ok := strings.Cut(e, "=")
		if !ok || name == "" || command == "" {
			return nil, fmt.Errorf("--server %q is not NAME=COMMAND", e)
		}
		all = slices.Insert(all, 0, server{name: name, command: strings.Fields(command)})
	}
	if list == "" {
		return all, nil
	}
	var chosen []server
	for _, name := range strings.Split(list, ",") {
		k := slices.IndexFunc(all, func(s server) bool { return s.name == name })
		if k < 0 {
			return nil, fmt.Errorf("no server %q", name)
		}
		chosen = append(chosen, all[k])
	}
	return chosen, nil
}

// build builds the servers and the load generator into dir.
func build(dir string, chosen []server) error {
	done := map[string]bool{}
	for _, s := range append([]server{goServer("loadgen")}, chosen...) {
		words := fill(s.build, dir)
		if key := strings.Join(words, " "); len(words) == 0 || done[key] {
			continue
		} else {
			done[key] = true
		}
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build %s: %w", s.name, err)
		}
	}
	return nil
}

func fill(words []string, dir string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = strings.ReplaceAll(w, "{}", filepath.Clean(dir))
	}
	return out
}
