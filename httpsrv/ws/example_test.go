package ws_test

import (
	"fmt"

	"github.com/tilewire/tilewire/httpsrv/ws"
)

// The masked "Hello" of RFC 6455 5.7, read as a server does.
func Example() {
	p := []byte{0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}
	var h ws.Header
	if !ws.ParseHeader(p, &h) {
		return // more bytes are needed
	}
	if f := ws.Check(&h, 0, 0, 1024, 1024); f != ws.FaultNone {
		fmt.Println("close with", f.CloseCode())
		return
	}
	text := make([]byte, h.Len)
	ws.UnmaskCopy(text, p[h.HdrLen:], h.Mask, 0)
	var u ws.UTF8
	fmt.Println(string(text), u.Write(text) && u.Done())
	// Output: Hello true
}

func ExamplePutHeader() {
	frame := make([]byte, 64)
	n := ws.PutHeader(frame, ws.OpText, true, 2)
	n += copy(frame[n:], "hi")
	fmt.Printf("% x\n", frame[:n])
	// Output: 81 02 68 69
}
