package admin

// Steering is how new connections have been spread over the network tiles, by outcome (docs/steering.md).
type Steering struct {
	Mode     string `json:"mode"`
	Live     int    `json:"live_tiles"`
	Selected uint64 `json:"selected"`
	FellBack uint64 `json:"fell_back"` // left to the kernel's hash, since no live tile had a listener
	Passed   uint64 `json:"passed"`    // left to it by mode off
	Empty    uint64 `json:"empty"`     // looks at live tiles without a listener
	Other    uint64 `json:"other"`     // segments that begin no connection
	Migrated uint64 `json:"migrated"`  // from a listener that was closed
}

// SteeredTile is a network tile's part in it.
type SteeredTile struct {
	Live     bool   `json:"live"`
	Load     uint64 `json:"load"`    // connections, as it said
	Pending  uint64 `json:"pending"` // were sent to it and not taken yet
	Selected uint64 `json:"selected"`
	Migrated uint64 `json:"migrated"`
}

func (s *Server) steering() *Steering {
	st := s.steered.Stats()
	if st.Tiles == nil {
		return nil
	}
	return &Steering{Mode: st.Mode.String(), Live: st.Live, Selected: st.Selected(), FellBack: st.FellBack, Passed: st.Passed,
		Empty: st.Empty, Other: st.Other, Migrated: st.Migrated()}
}
