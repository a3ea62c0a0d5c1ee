package httpsrv

import "fmt"

// Counters of a network tile, in shared memory under these names
// (tile.Counters): gauges are named _now. writer: the tile
const (
	cntConnsNow = iota // connections in any state
	cntWsNow           // connections that stream
	cntAccepted
	cntRejected    // refused for want of a slot
	cntAcceptErr   // accept failed (descriptors, memory)
	cntUpgrades    // 101 sent
	cntRequests    // requests answered
	cntDelivered   // messages given to the kernel whole, one for each client
	cntSentBytes   // bytes given to the kernel
	cntSends       // send calls
	cntSendPartial // of these, that took a part
	cntSendBlocked // of these, that took nothing
	cntSendErr     // of these, that failed
	cntRecvBytes
	cntRecvs
	cntMessages     // messages received
	cntPings        // pings answered
	cntPasses       // delivery passes
	cntOverruns     // descriptors reused before the tile read them
	cntSideDropped  // messages to connections that are gone
	cntBufWaits     // a pool was empty
	cntBlockedNow   // clients that the kernel takes nothing more for now
	cntMaxLagBytes  // lag of the slowest client at the last sweep
	cntWalkedSeq    // seq of ring 0 up to which the tile has sent what its clients take
	cntWalkedBytes  // and the ring's offset there (RingState.Offset)
	cntAppEvents    // events put into applications' queues
	cntAppWaits     // times a connection waited for room in one
	cntAppLost      // requests answered with 503 because their application was gone, or late
	cntRejectedAddr // refused: its address has all the connections it may have
	cntPaced        // times that AcceptRate left somebody in the backlog
	cntCarried      // connections taken over from a predecessor
	cntPingsSent
	cntSkips                          // times that a client skipped ahead
	cntSkipped                        // messages that these missed
	cntPongs                          // pongs that answered a ping of ours
	cntRttUs                          // sum of their round trip times in µs
	cntRtt0                           // rtt_le_<bound>: of these, how many lie in each class
	cntClosed0 = cntRtt0 + rttClasses // closed_<reason>, one for each CloseReason
	cntCnt     = cntClosed0 + int(closeReasonCnt)
)

// CounterNames returns the names of a network tile's counters, in order.
func CounterNames() []string {
	names := []string{
		"conns_now", "ws_now", "accepted", "rejected", "accept_errors", "upgrades", "requests",
		"delivered", "sent_bytes", "sends", "sends_partial", "sends_blocked", "send_errors",
		"recv_bytes", "recvs", "messages", "pings", "passes", "overruns", "side_dropped", "buffer_waits",
		"blocked_now", "max_lag_bytes", "walked_seq", "walked_bytes", "app_events", "app_waits", "app_lost",
		"rejected_address", "accept_paced", "carried_on", "pings_sent", "skips", "skipped_messages", "pongs", "rtt_us",
	}
	for _, us := range rttBounds {
		names = append(names, fmt.Sprintf("rtt_le_%dus", us))
	}
	names = append(names, "rtt_more")
	for r := range closeReasonCnt {
		names = append(names, "closed_"+r.Name())
	}
	return names
}
