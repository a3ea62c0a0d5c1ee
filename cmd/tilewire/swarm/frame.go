package swarm

import "encoding/binary"

const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa

	maxFrameSz   = 1 << 30
	maxControlSz = 125 // RFC 6455 section 5.5
)

// headerSz returns the length of the server frame header that begins with p: 2 until its second
// byte is there.
func headerSz(p []byte) int {
	if len(p) >= 2 {
		switch p[1] & 0x7f {
		case 126:
			return 4
		case 127:
			return 10
		}
	}
	return 2
}

// parseHeader reads the complete server frame header h. fault is empty, or says what RFC 6455
// section 5.2 or 5.5 forbids; inMsg tells that a fragmented message is in progress.
func parseHeader(h []byte, inMsg bool) (op byte, fin bool, n uint64, fault string) {
	op, fin = h[0]&0x0f, h[0]&0x80 != 0
	switch n = uint64(h[1] & 0x7f); n {
	case 126:
		if n = uint64(binary.BigEndian.Uint16(h[2:])); n < 126 {
			return op, fin, n, "length not in its shortest form"
		}
	case 127:
		if n = binary.BigEndian.Uint64(h[2:]); n < 1<<16 {
			return op, fin, n, "length not in its shortest form"
		}
	}
	switch {
	case h[0]&0x70 != 0:
		fault = "reserved bit set"
	case h[1]&0x80 != 0:
		fault = "masked by the server"
	case n > maxFrameSz:
		fault = "length above 1 GiB"
	case op >= opClose && op <= opPong && !fin:
		fault = "fragmented control frame"
	case op >= opClose && op <= opPong && n > maxControlSz:
		fault = "control frame longer than 125 bytes"
	case op > opPong, op > opBinary && op < opClose:
		fault = "unknown opcode"
	case op == opContinuation && !inMsg:
		fault = "continuation of nothing"
	case (op == opText || op == opBinary) && inMsg:
		fault = "new message inside a fragmented one"
	}
	return op, fin, n, fault
}

// appendFrame appends a masked client frame to dst. len(p) is at most 65535. The mask comes from
// the caller: against a server under test it need not be unpredictable.
func appendFrame(dst []byte, op byte, p []byte, mask uint32) []byte {
	dst = append(dst, 0x80|op)
	if len(p) < 126 {
		dst = append(dst, 0x80|byte(len(p)))
	} else {
		dst = append(dst, 0x80|126)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(p)))
	}
	dst = binary.LittleEndian.AppendUint32(dst, mask)
	for i, b := range p {
		dst = append(dst, b^byte(mask>>(8*(uint(i)&3))))
	}
	return dst
}
