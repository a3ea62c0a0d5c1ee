package main

import (
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
)

// logLevel holds for every logger of this process, also those that were made before it changed.
var logLevel slog.LevelVar

// logFormat is auto, text or json, for loggers that are made from now on.
var logFormat = "auto"

var logLevels = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

// logFlags declares what is logged, and how.
func logFlags(cmd *cobra.Command, l *instance.Log) {
	cmd.Flags().StringVar(&l.Level, "log-level", "info", "log from this level on: debug, info, warn, error")
	cmd.Flags().StringVar(&l.Format, "log-format", "auto", "auto (text on a terminal, else JSON), text or json")
}

// checkLog says what is wrong with l.
func checkLog(l instance.Log) error {
	if _, ok := logLevels[l.Level]; !ok {
		return usageError{fmt.Errorf("--log-level %q: one of debug, info, warn, error", l.Level)}
	}
	if !strings.Contains(" auto text json ", " "+l.Format+" ") || l.Format == "" {
		return usageError{fmt.Errorf("--log-format %q: one of auto, text, json", l.Format)}
	}
	return nil
}

// setLog has this process log as l says. What l does not say stays.
func setLog(l instance.Log) {
	if v, ok := logLevels[l.Level]; ok {
		logLevel.Set(v)
	}
	if l.Format != "" && l.Format != logFormat {
		logFormat = l.Format
	}
}

// logger writes to standard error.
func logger() *slog.Logger {
	text := logFormat == "text"
	if logFormat == "auto" {
		_, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS)
		text = err == nil
	}
	o := &slog.HandlerOptions{Level: &logLevel}
	if text {
		return slog.New(slog.NewTextHandler(os.Stderr, o))
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, o))
}
