package admin_test

import (
	"os"

	"github.com/tilewire/tilewire/cmd/tilewire/admin"
)

func ExampleList_Text() {
	l := admin.List{Total: 3, Clients: []admin.Client{{ID: "0.7.1", Peer: "192.0.2.1:5000", Transport: "ws", State: "stream", Topic: "default", LagMessages: 12, LagBytes: 1536, LagSeconds: 0.5, Sent: 4096}}}
	l.Text(os.Stdout)
	// Output:
	// id     peer            transport  state   topic    age  lag  bytes  seconds  blocked  sent  rtt  reason
	// 0.7.1  192.0.2.1:5000  ws         stream  default  0s   12   1536   0.5      -        4096  -    -
	// 2 more
}
