package h1

// Verdict is what Parse and CheckUpgrade say about a request: 4 bytes, a value.
type Verdict struct {
	// Status is the HTTP status to answer with when Failed; 0 otherwise.
	Status uint16
	// Reason is the class of the failure, from which the server derives its close reason.
	Reason Reason
	// Why names the rule that was broken, for logs and counters.
	Why Why
}

// OK reports whether the request may be served.
func (v Verdict) OK() bool { return v.Reason == ReasonOK }

// Incomplete reports whether more bytes are needed.
func (v Verdict) Incomplete() bool { return v.Reason == ReasonIncomplete }

// Failed reports whether the request is refused: answer Status with Connection: close, then close.
func (v Verdict) Failed() bool { return v.Reason > ReasonIncomplete }

// Reason is the class of a verdict; each failing class corresponds to one close reason of the server.
type Reason uint8

// The classes of verdicts.
const (
	ReasonOK                          Reason = iota
	ReasonIncomplete                         // more bytes are needed
	ReasonBadRequest                         // malformed, 400, 417 or 505
	ReasonLargeRequest                       // head (431, 414) or head and body (413) over the limit
	ReasonMissingContentLength               // 411
	ReasonUnsupportedTransferEncoding        // 501, or 400 together with Content-Length
	ReasonUnknownMethod                      // 501, or 405 for a method that exists but is not allowed
	ReasonPathTooLong                        // 414
	ReasonWsBadKey                           // Sec-WebSocket-Key is not 16 octets in base64, or comes twice
	ReasonWsUnexpectedVersion                // 426
	ReasonWsMissingKey
	ReasonWsMissingVersion
	ReasonWsMissingUpgrade // no Upgrade: websocket, or no Connection: upgrade

	reasonCnt
)

var reasonStr = [reasonCnt]string{
	"ok", "incomplete", "bad request", "large request", "missing content length", "unsupported transfer encoding",
	"unknown method", "path too long", "websocket bad key", "websocket unexpected version", "websocket missing key",
	"websocket missing version", "websocket missing upgrade",
}

// String returns the class in words.
func (r Reason) String() string {
	if r < reasonCnt {
		return reasonStr[r]
	}
	return "unknown"
}

// Why is the rule that a refused request broke.
type Why uint8

// The rules. RFC numbers are those of the section that has the rule.
const (
	WhyNone              Why = iota
	WhyBareLF                // a line ended by LF without CR (RFC 9112 2.2 lets us refuse it)
	WhyMethodSyntax          // the method is no token, or nothing follows it (9112 3)
	WhyMethodLong            // the method is longer than any (9112 3)
	WhyMethodUnknown         // 501 (9110 9.1)
	WhyMethodNotAllowed      // 405 (9110 15.5.6)
	WhyTargetSyntax          // the request target has a form that does not fit (9112 3.2)
	WhyTargetLong            // 414 (9112 3)
	WhyVersionSyntax         // not HTTP/d.d, or no version at all (9112 2.3)
	WhyVersion               // 505 (9110 15.6.6)
	WhyFold                  // a field line starts with white space (9112 5.2)
	WhyFieldName             // no colon, an empty name, or a name that is no token, white space before the colon included (9112 5.1)
	WhyFieldValue            // CR, NUL or another control octet in a value (9110 5.5)
	WhyFieldCount            // more field lines than MaxHeaders
	WhyHeadLong              // no end of head within the limit
	WhyHostMissing           // 9112 3.2
	WhyHostTwice             // 9112 3.2
	WhyHostSyntax            // 9110 7.2, RFC 3986 3.2.2
	WhyOriginTwice           // two Origin fields: it would be unclear which one to check
	WhyLengthSyntax          // Content-Length is not 1*DIGIT (9110 8.6)
	WhyLengthDiffers         // Content-Length twice with different values (9112 6.3)
	WhyLengthMissing         // 411: POST or PUT without Content-Length
	WhyBodyLong              // 413
	WhyTransferEncoding      // 501 (9112 6.1)
	WhyLengthAndEncoding     // Content-Length and Transfer-Encoding (9112 6.1)
	WhyExpect                // 417: an expectation other than 100-continue (9110 10.1.1)
	WhyUpgradeMethod         // an upgrade by another method than GET (RFC 6455 4.1)
	WhyUpgradeVersion        // an upgrade in HTTP/1.0
	WhyUpgradeBody           // an upgrade with a body
	WhyUpgradeMissing        // no Upgrade: websocket
	WhyUpgradeToken          // no upgrade token in Connection
	WhyKeyMissing            // no Sec-WebSocket-Key
	WhyKeySyntax             // a key that is not 16 octets in base64, or two keys
	WhyWsVersionMissing      // no Sec-WebSocket-Version
	WhyWsVersion             // 426: another version than 13 (6455 4.4)

	whyCnt
)

var whyStr = [whyCnt]string{
	"", "line ends in LF without CR", "malformed method", "method too long", "unknown method", "method not allowed",
	"malformed request target", "request target too long", "malformed version", "unsupported version", "folded field line",
	"malformed field name", "control octet in a field value", "too many fields", "request head too long", "no Host field",
	"more than one Host field", "invalid Host", "more than one Origin field", "malformed Content-Length", "differing Content-Length fields",
	"no Content-Length", "request too long", "Transfer-Encoding", "Transfer-Encoding together with Content-Length",
	"unknown expectation", "upgrade by another method than GET", "upgrade in HTTP/1.0", "upgrade with a body",
	"no Upgrade: websocket", "no Connection: upgrade", "no Sec-WebSocket-Key", "malformed Sec-WebSocket-Key",
	"no Sec-WebSocket-Version", "unsupported Sec-WebSocket-Version",
}

// String returns the rule in words, empty for WhyNone.
func (w Why) String() string {
	if w < whyCnt {
		return whyStr[w]
	}
	return "unknown"
}

func bad(w Why) Verdict { return Verdict{400, ReasonBadRequest, w} }

var incomplete = Verdict{0, ReasonIncomplete, WhyNone}
