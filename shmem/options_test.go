package shmem

import "testing"

func TestParsePages(t *testing.T) {
	for name, want := range map[string]uint64{"normal": PageNormal, "huge": PageHuge, "gigantic": PageGigantic} {
		if size, ok := ParsePages(name); !ok || size != want {
			t.Errorf("%s: %d, %v", name, size, ok)
		}
	}
	if size, ok := ParsePages("large"); ok || size != 0 {
		t.Errorf("large: %d, %v", size, ok)
	}
}
