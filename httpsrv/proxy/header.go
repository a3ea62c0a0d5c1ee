package proxy

// Versions is a set of versions of the PROXY protocol.
type Versions uint8

// The versions, and both.
const (
	V1  Versions = 1 << iota // one line of text
	V2                       // binary
	Any = V1 | V2
)

// State is what Parse found.
type State uint8

// The outcomes of Parse.
const (
	OK State = iota
	Incomplete
	Malformed // no header of an accepted version, whatever comes
)

// Header is a header that was read.
type Header struct {
	Len int // bytes of it; what follows is the client's

	// Own: the connection is the proxy's own (v2 LOCAL: a health check), or its client's address is not known (v1 UNKNOWN,
	// v2 UNSPEC): the connection's own address is the client's.
	Own  bool
	Src  [16]byte // the client's address; zero: it came to the proxy by a unix socket
	Port uint16
}

// MaxLen bounds a header, in bytes: 16 and the address, and what is left for TLVs, which are skipped.
const MaxLen = 4096

// MinRoom is the least room for a header: that of a v2 one with the longest addresses (unix sockets), which is the longest without TLVs.
const MinRoom = v2Head + unixLen

// Parse reads the header at the start of p, bytes received so far; max (MinRoom to MaxLen) bounds its length. h is set when it is OK.
// The verdict depends on the bytes alone: with more of the same, Incomplete becomes OK or Malformed, the others stay.
func Parse(p []byte, accept Versions, max int, h *Header) State {
	if len(p) == 0 {
		return Incomplete
	}
	switch {
	case p[0] == v2Sig[0] && accept&V2 != 0:
		return parseV2(p, max, h)
	case p[0] == v1Sig[0] && accept&V1 != 0:
		return parseV1(p, h)
	}
	return Malformed
}

// Begins reports whether p begins as a header of either version: no request does.
func Begins(p []byte) bool { return begins(p, v1Sig) || begins(p, v2Sig) }

func begins(p []byte, sig string) bool { return len(p) >= len(sig) && string(p[:len(sig)]) == sig }

// agrees reports whether p may still become something that begins with sig.
func agrees(p []byte, sig string) bool {
	n := min(len(p), len(sig))
	return string(p[:n]) == sig[:n]
}
