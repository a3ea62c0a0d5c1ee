package ws

// Fault is what is wrong with a frame; 0 is none.
type Fault uint8

// The faults, in the order in which they are looked for.
const (
	FaultNone              Fault = iota
	FaultRsv                     // RSV bits without an extension (RFC 6455 5.2)
	FaultUnknownOpcode           // 3-7, 11-15 (5.2)
	FaultControlFragmented       // a control frame without FIN (5.5)
	FaultControlTooLarge         // a control frame over 125 octets (5.5)
	FaultExpectedCont            // a new message within a fragmented one (5.4)
	FaultExpectedText            // a continuation with nothing to continue (5.4)
	FaultBadMask                 // a frame of a client without a mask (5.1)
	FaultBadLength               // bit 63 set, or not the shortest form (5.2)
	FaultOversize                // the frame or the sum of the fragments is over the limit

	faultCnt
)

var faultStr = [faultCnt]string{
	"", "reserved bits set", "unknown opcode", "fragmented control frame", "control frame over 125 octets",
	"new message within a fragmented one", "continuation without a message", "frame without a mask",
	"invalid payload length", "frame or message too big",
}

// String returns the fault in words, empty for FaultNone.
func (f Fault) String() string {
	if f < faultCnt {
		return faultStr[f]
	}
	return "unknown"
}

// CloseCode returns the code to close with: 0 for FaultNone, 1009 for FaultOversize, 1002 for the rest.
func (f Fault) CloseCode() uint16 {
	switch f {
	case FaultNone:
		return 0
	case FaultOversize:
		return CodeTooBig
	}
	return CodeProtocol
}

// CheckStart judges the first two octets of a client's frame, so that a bad frame is refused before the rest of its header is there.
// msgOp is the opcode of the message in progress: 0 for none, OpText or OpBinary after a first fragment without FIN.
func CheckStart(b0, b1, msgOp byte) Fault {
	op := b0 & 0xf
	switch {
	case b0&0x70 != 0:
		return FaultRsv
	case op > OpPong || op > OpBinary && op < OpClose:
		return FaultUnknownOpcode
	case op >= OpClose:
		if b0&0x80 == 0 {
			return FaultControlFragmented
		}
		if b1&0x7f > MaxControl {
			return FaultControlTooLarge
		}
	case op == OpCont:
		if msgOp == 0 {
			return FaultExpectedText
		}
	case msgOp != 0:
		return FaultExpectedCont
	}
	if b1&0x80 == 0 {
		return FaultBadMask
	}
	return FaultNone
}

// Check judges the whole header of a client's frame; it finds all that CheckStart finds, and the same first. got is the payload of the
// message in its earlier fragments, in octets. maxFrame bounds one data frame, maxMsg the sum of a message's fragments, both inclusive.
func Check(h *Header, msgOp byte, got, maxFrame, maxMsg uint64) Fault {
	b0, b1 := h.Rsv<<4|h.Op, h.lenBits
	if h.Fin {
		b0 |= 0x80
	}
	if h.Masked {
		b1 |= 0x80
	}
	if f := CheckStart(b0, b1, msgOp); f != FaultNone {
		return f
	}
	switch {
	case h.lenBits == 126 && h.Len <= 125, h.lenBits == 127 && (h.Len <= 0xffff || h.Len>>63 != 0):
		return FaultBadLength
	case h.Op >= OpClose:
		return FaultNone
	case h.Len > maxFrame || h.Len > maxMsg || got > maxMsg-h.Len:
		return FaultOversize
	}
	return FaultNone
}
