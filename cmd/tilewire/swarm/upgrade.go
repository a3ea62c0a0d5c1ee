package swarm

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"strconv"
)

// maxAnswerSz bounds the answer to an upgrade request, head and (if refused) body.
const maxAnswerSz = 16 << 10

// upgradeKey derives a client's Sec-WebSocket-Key from the swarm's random seed and its index.
func upgradeKey(seed uint64, i int) (key [24]byte) {
	var raw [16]byte
	binary.LittleEndian.PutUint64(raw[:], seed)
	binary.LittleEndian.PutUint64(raw[8:], uint64(i))
	base64.StdEncoding.Encode(key[:], raw[:])
	return key
}

// upgradeAccept returns what the server must answer to key (RFC 6455 section 4.2.2).
func upgradeAccept(key []byte) (accept [28]byte) {
	h := sha1.New()
	h.Write(key)
	h.Write([]byte("258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	base64.StdEncoding.Encode(accept[:], h.Sum(nil))
	return accept
}

// appendUpgrade appends the upgrade request to dst.
func appendUpgrade(dst []byte, host, path, subprotocol string, key []byte) []byte {
	dst = append(dst, "GET "...)
	dst = append(dst, path...)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, host...)
	dst = append(dst, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "...)
	dst = append(dst, key...)
	if subprotocol != "" {
		dst = append(dst, "\r\nSec-WebSocket-Protocol: "...)
		dst = append(dst, subprotocol...)
	}
	return append(dst, "\r\n\r\n"...)
}

// parseUpgrade reads the answer p. status is 0 while it is incomplete; head is its length; fault
// is empty when it is a valid acceptance of key (RFC 6455 section 4.1).
func parseUpgrade(p, key []byte) (status, head int, fault string) {
	end := bytes.Index(p, []byte("\r\n\r\n"))
	if end < 0 {
		return 0, 0, ""
	}
	head = end + 4
	lines := bytes.Split(p[:end], []byte("\r\n"))
	first := lines[0]
	if len(first) < 12 || !bytes.HasPrefix(first, []byte("HTTP/1.1 ")) {
		return 1, head, "no HTTP/1.1 status line: " + strconv.Quote(string(first))
	}
	status, err := strconv.Atoi(string(first[9:12]))
	if err != nil || status < 100 {
		return 1, head, "no status code: " + strconv.Quote(string(first))
	}
	if status != 101 {
		return status, head, string(first[9:])
	}
	var upgrade, connection, accept []byte
	for _, l := range lines[1:] {
		name, value, _ := bytes.Cut(l, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Upgrade")):
			upgrade = value
		case bytes.EqualFold(name, []byte("Connection")):
			connection = value
		case bytes.EqualFold(name, []byte("Sec-WebSocket-Accept")):
			accept = value
		}
	}
	want := upgradeAccept(key)
	switch {
	case !bytes.EqualFold(upgrade, []byte("websocket")):
		fault = "101 without Upgrade: websocket"
	case !bytes.Contains(bytes.ToLower(connection), []byte("upgrade")):
		fault = "101 without Connection: Upgrade"
	case !bytes.Equal(accept, want[:]):
		fault = "wrong Sec-WebSocket-Accept " + strconv.Quote(string(accept))
	}
	return status, head, fault
}
