// Package page holds the live page that `tilewire pipe` serves at `/`.
//
// The page is one file without outside resources, so that it works on a machine with no network.
// It opens a WebSocket to `ws` beside its own address (`ws/TOPIC` with `?topic=TOPIC`) and shows each
// message as a line. The stream is never trusted: its text reaches the document as text nodes only,
// and the page's own Content-Security-Policy allows its one style and one script by their hash and no
// other source.
//
//	socket --> pending (arrived, under 4,000) --> recs (kept, under 4,000) --> rows (in the DOM, at most 2,000)
//	              |                           |
//	              |                           once per animation frame, not while paused
//	              v
//	           skipped (the oldest beyond 2,000 waiting): counted and shown
//
// Limits: at most 2,000 lines, 4,096 characters of a message and 24 bytes of a binary one are shown; each
// cut says how much is missing. Lines sent while the page was not connected are not fetched again; the view
// says where that happened.
package page
