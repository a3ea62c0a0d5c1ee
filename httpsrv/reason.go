package httpsrv

import "github.com/tilewire/tilewire/httpsrv/h1"

// CloseReason says why a connection was closed. Each has a counter of its own
// per tile (closed_<name>).
type CloseReason uint8

// Close reasons: those of the seed under their names, then ours.
const (
	CloseOK CloseReason = iota
	CloseEvicted
	CloseTooSlow
	CloseExpectedEOF
	ClosePeerReset
	CloseLargeRequest
	CloseBadRequest
	CloseMissingContentLengthHeader
	CloseUnsupportedTransferEncoding
	CloseUnknownMethod
	ClosePathTooLong
	CloseWsBadKey
	CloseWsUnexpectedVersion
	CloseWsMissingKeyHeader
	CloseWsMissingVersionHeader
	CloseWsBadMask
	CloseWsUnknownOpcode
	CloseWsOversizeFrame
	CloseWsClientTooSlow
	CloseWsMissingUpgrade
	CloseWsExpectedContOpcode
	CloseWsExpectedTextOpcode
	CloseWsControlFrameTooLarge

	CloseTimeout     // no request within the bound, or no answer to our close
	CloseLimit       // no slot
	CloseProtocol    // any other breach of RFC 6455
	CloseBadUTF8     // invalid UTF-8 in a text message or close reason
	CloseNoPong      // no pong in time
	CloseOrigin      // an upgrade for a page of another origin
	CloseDrain       // the tile is being drained
	CloseShutdown    // the producer's input ended, or the instance stops
	CloseTileLost    // the tile died and its sockets with it
	CloseOperator    // kicked
	CloseInternal    // a response that can't be sent
	CloseApplication // the application closed it without a reason of its own
	CloseAppGone     // the application in another process that it belonged to is gone, or did not answer
	CloseProxyHeader // no good header of the PROXY protocol from a trusted proxy, or one from somebody else
	closeReasonCnt
)

var closeNames = [closeReasonCnt]string{
	"ok", "evicted", "too_slow", "expected_eof", "peer_reset", "large_request", "bad_request",
	"missing_content_length_header", "unsupported_transfer_encoding", "unknown_method", "path_too_long",
	"ws_bad_key", "ws_unexpected_version", "ws_missing_key_header", "ws_missing_version_header",
	"ws_bad_mask", "ws_unknown_opcode", "ws_oversize_frame", "ws_client_too_slow", "ws_missing_upgrade",
	"ws_expected_cont_opcode", "ws_expected_text_opcode", "ws_control_frame_too_large",
	"timeout", "limit", "protocol", "bad_utf8", "no_pong", "origin", "drain", "shutdown", "tile_lost",
	"operator", "internal", "application", "app_gone", "proxy_header",
}

var closeTexts = [closeReasonCnt]string{
	"served, or closed by the client",
	"evicted to make room for a newer connection",
	"too slow: the bytes it had yet to get were reclaimed",
	"the client ended its side before a request was complete",
	"reset by the client",
	"request larger than the limit",
	"malformed request",
	"request body without Content-Length",
	"Transfer-Encoding is not supported",
	"unknown method",
	"path too long",
	"WebSocket key is not 16 octets of base64",
	"WebSocket version is not 13",
	"upgrade without Sec-WebSocket-Key",
	"upgrade without Sec-WebSocket-Version",
	"frame without mask",
	"unknown opcode",
	"message larger than the limit",
	"WebSocket client too slow: it fell behind the ring",
	"handshake without Upgrade: websocket",
	"a fragment was expected to be a continuation",
	"a continuation without a message to continue",
	"control frame over 125 octets",
	"timed out",
	"no free slot",
	"WebSocket protocol error",
	"invalid UTF-8",
	"no pong",
	"origin not allowed",
	"drained",
	"shutting down",
	"its network tile died",
	"closed by the operator",
	"response could not be sent",
	"closed by the application",
	"application is gone",
	"PROXY header missing, malformed, or from no trusted proxy",
}

// String describes the reason in words; 'unknown' for anything else.
func (r CloseReason) String() string {
	if r >= closeReasonCnt {
		return "unknown"
	}
	return closeTexts[r]
}

// Name is the reason as a word for counters and labels; 'unknown' for anything else.
func (r CloseReason) Name() string {
	if r >= closeReasonCnt {
		return "unknown"
	}
	return closeNames[r]
}

// parseReasons maps the request parser's findings.
var parseReasons = map[h1.Reason]CloseReason{
	h1.ReasonBadRequest:                  CloseBadRequest,
	h1.ReasonLargeRequest:                CloseLargeRequest,
	h1.ReasonMissingContentLength:        CloseMissingContentLengthHeader,
	h1.ReasonUnsupportedTransferEncoding: CloseUnsupportedTransferEncoding,
	h1.ReasonUnknownMethod:               CloseUnknownMethod,
	h1.ReasonPathTooLong:                 ClosePathTooLong,
	h1.ReasonWsBadKey:                    CloseWsBadKey,
	h1.ReasonWsUnexpectedVersion:         CloseWsUnexpectedVersion,
	h1.ReasonWsMissingKey:                CloseWsMissingKeyHeader,
	h1.ReasonWsMissingVersion:            CloseWsMissingVersionHeader,
	h1.ReasonWsMissingUpgrade:            CloseWsMissingUpgrade,
}
