//go:build !explore

package httpsrv

// stressHold does something in the exploring build only.
func stressHold(*NetTile) {}

func stressBreak() {}
