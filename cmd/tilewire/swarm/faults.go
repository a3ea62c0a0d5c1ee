package swarm

import "fmt"

// Faults counts what healthy operation never shows. All zero means: every client that read got each
// message from its first one on, once, in order and intact.
type Faults struct {
	Gaps        uint64 `json:"gaps"`         // places where one or more seqs are missing
	Missing     uint64 `json:"missing"`      // seqs missing in them
	Doubles     uint64 `json:"doubles"`      // seq not above its predecessor: doubled or out of order
	Torn        uint64 `json:"torn"`         // a frame header that no server may send; the client is closed
	WrongBytes  uint64 `json:"wrong_bytes"`  // messages with a wrong filler (ModeFull)
	WrongLength uint64 `json:"wrong_length"` // messages of another length than Size, or shorter than PrefixSz
	AfterClose  uint64 `json:"after_close"`  // data frames after the server's close frame
	Unwanted    uint64 `json:"unwanted"`     // messages to idle clients

	First []string `json:"first,omitempty"` // the first case of each kind, in the order of appearance
}

// Total returns the number of faults (missing seqs count through their gap).
func (f *Faults) Total() uint64 {
	return f.Gaps + f.Doubles + f.Torn + f.WrongBytes + f.WrongLength + f.AfterClose + f.Unwanted
}

// add counts a fault and describes it when it is the first of its kind. Only then it allocates.
func (f *Faults) add(n *uint64, i int, c *client, format string, args ...any) {
	if *n++; *n == 1 {
		f.First = append(f.First, fmt.Sprintf("client %d (%s, message %d): ", i, c.role, c.msgs+1)+fmt.Sprintf(format, args...))
	}
}
