package httpsrv

// point names a place between two accesses to shared memory.
type point uint8

const (
	ptLimitRaised point = iota + 1 // the producer has raised a limit, and has read no pin yet
	ptPinRead                      // the producer has read one tile's pin
	ptPinWait                      // the producer waits for a pin below its limit
	ptReclaimed                    // the producer may overwrite up to the limit
	ptStaged                       // some payload bytes were written
	ptDescCleared                  // the descriptor to be reused is marked as being written
	ptDescWritten                  // the descriptor is whole, and not published yet
	ptPublished                    // head has moved
	ptPinned                       // a tile has stored its pin, and has not read the limit yet
	ptChecked                      // a tile has found its cursor at or above the limit
	ptSending                      // a tile is in the middle of a send
	ptUnpinned                     // a tile holds no pin
	ptLookup                       // a joiner has read head, and has not looked its position up yet
	ptDescRead                     // a reader has found a descriptor's number good, and has not copied it yet
	ptTakeover                     // a role has been taken, and nothing of it touched yet
	ptSent                         // the kernel took bytes, and that is not all written down
	ptReceived                     // bytes lie in the memory, and that is not all written down
	ptAnswered                     // a connection is on its way from one state to the next
	ptQueued                       // a message for one connection is being put
	ptPonged                       // an answer to a ping is being put
	ptAccepted                     // a socket was accepted, and has no entry yet
	ptClosed                       // a socket was closed, and its entry is not free yet
	ptEvent                        // an event was put for an application, and that is not all written down
)

// rule names one rule of the reclaim protocol, so that the exploring test can
// break it and see that torn bytes follow. The comment tells what is done when
// the rule is broken.
type rule uint8

const (
	ruleRaiseThenPins     rule = iota + 1 // pins are read first, the limit is raised afterwards
	rulePinThenLimit                      // the limit is checked first, the pin is stored afterwards
	ruleWaitForPins                       // pins below the limit are not waited for
	ruleDeadNow                           // a tile that was once seen dead is disregarded for ever
	ruleLimitIsNoGrant                    // a new producer trusts the limit that it finds
	ruleFailedWait                        // after a failed wait the limit counts as granted
	ruleDescRaises                        // a descriptor is reused without raising the limits
	ruleSidePins                          // pins of the side area are not read
	ruleSideLimit                         // the limit of the side area is not checked before a send
	ruleCopyThenCheck                     // a descriptor's sequence number is not checked after the copy
	ruleUnpublishedHidden                 // head moves before the descriptor is written
	ruleHeadStays                         // the limit passes what is published
	ruleBoundaryLimit                     // a frame boundary is believed without a look at the limit
	ruleCount
)
