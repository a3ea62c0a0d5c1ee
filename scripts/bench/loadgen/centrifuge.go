package main

import "encoding/binary"

// centrifugeHello is a length-delimited protobuf Command{id: 1, connect: {}}.
var centrifugeHello = []byte{4, 0x08, 1, 0x22, 0}

// centrifugeUnwrap takes the next length-delimited Reply off a frame and returns the data of
// Reply.push(4).pub(4).data(4); nil for any other reply. Source: centrifugal/protocol, client.proto.
func centrifugeUnwrap(p []byte) (msg, rest []byte, ok bool) {
	n, k := binary.Uvarint(p)
	if k <= 0 || n > uint64(len(p)-k) {
		return nil, nil, false
	}
	reply, rest := p[k:k+int(n)], p[k+int(n):]
	return bytesField(bytesField(bytesField(reply, 4), 4), 4), rest, true
}

// bytesField returns the length-delimited field num of protobuf message p, nil when it has none.
func bytesField(p []byte, num uint64) []byte {
	for len(p) > 0 {
		tag, k := binary.Uvarint(p)
		if k <= 0 {
			return nil
		}
		p = p[k:]
		v, k := binary.Uvarint(p) // the value, or the length
		if k <= 0 {
			return nil
		}
		p = p[k:]
		switch tag & 7 {
		case 0:
		case 2:
			if v > uint64(len(p)) {
				return nil
			}
			if tag>>3 == num {
				return p[:v]
			}
			p = p[v:]
		default: // fixed-width fields do not occur
			return nil
		}
	}
	return nil
}
