package shmem

import (
	"fmt"
	"path/filepath"
	"strings"
)

// filePrefix begins the file name of every region; the rest is the region's name.
const filePrefix = "tilewire."

// maxName is the greatest length of a region's name in bytes.
const maxName = 40

// CheckName returns ErrBadName unless name is 1 to 40 of [a-z0-9._-] and begins with a letter or a digit.
func CheckName(name string) error {
	if len(name) == 0 || len(name) > maxName {
		return fmt.Errorf("%w: %.60q has %d bytes, 1 to %d are allowed", ErrBadName, name, len(name), maxName)
	}
	for i := range len(name) {
		c := name[i]
		alnum := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("._-", rune(c))) {
			return fmt.Errorf("%w: %q: byte %d is not one of a-z 0-9 . _ - (first a letter or a digit)", ErrBadName, name, i)
		}
	}
	return nil
}

// regionPath returns the path of a region's file in the directory dir.
func regionPath(dir, name string) string { return filepath.Join(dir, filePrefix+name) }

// regionName is the inverse for a directory entry; ok is false if it is no region's file name.
func regionName(entry string) (name string, ok bool) {
	name, ok = strings.CutPrefix(entry, filePrefix)
	return name, ok && CheckName(name) == nil
}
