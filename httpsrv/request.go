package httpsrv

import "github.com/tilewire/tilewire/httpsrv/h1"

// Method is a request's method; its String is 'unknown' for anything else.
type Method = h1.Method

// MethodSet is a set of methods (Methods).
type MethodSet = h1.MethodSet

// Methods returns the set of ms.
func Methods(ms ...Method) MethodSet { return h1.Methods(ms...) }

// The methods that reach a callback.
const (
	MethodGet     = h1.GET
	MethodHead    = h1.HEAD
	MethodPost    = h1.POST
	MethodPut     = h1.PUT
	MethodOptions = h1.OPTIONS
)

// Request is a whole request. Its bytes lie in the tile's memory and are valid
// until the callback returns.
type Request struct {
	Conn    ConnID
	Method  Method
	Path    []byte // of the target, without the query; any bytes but control ones
	Query   []byte // after '?', or nil
	Headers RequestHeaders
	Body    []byte
}

// set fills r in from a head parsed from raw, which holds the body as well.
func (r *Request) set(c ConnID, h *h1.Head, raw []byte) {
	*r = Request{
		Conn: c, Method: h.Method, Path: h.Path, Query: h.Query, Body: raw[h.Len : h.Len+int(h.BodyLen())],
		Headers: RequestHeaders{
			Host: h.Host, ContentType: h.ContentType, AcceptEncoding: h.AcceptEncoding, Origin: h.Origin,
			LastEventID: h.LastEventID, WsProtocol: h.WsProtocol, UpgradeWebsocket: h.UpgradeWebSocket,
			head: h, raw: raw,
		},
	}
}

// RequestHeaders are the fields that most applications want; Lookup finds others.
type RequestHeaders struct {
	Host, ContentType, AcceptEncoding, Origin []byte
	LastEventID, WsProtocol                   []byte
	UpgradeWebsocket                          bool // the client asks for the WebSocket protocol
	head                                      *h1.Head
	raw                                       []byte
}

// Lookup returns the value of the first field called name (any case), or nil.
func (h *RequestHeaders) Lookup(name string) []byte { return h.head.Lookup(h.raw, name) }

// NoRing makes a WebSocket follow no ring: it gets what is sent to it alone.
const NoRing = -1

// Response answers a request. The zero value is 200 without a body.
type Response struct {
	Status           int  // 0 is 200
	Close            bool // end the connection after it, also where TileOptions.KeepAlive would let it live
	UpgradeWebsocket bool // answer 101; only to a request that asks for it

	// Of a tile's callback: application App answers, in a process of its own
	// (Server.TakeApp), and gets the connection's events from now on. While
	// nobody has that role the rest of the Response is the answer; with Status 0
	// it is 503 with Retry-After.
	Forward bool
	App     int

	// Of an application in a process of its own.
	Later bool   // App.Respond answers, some time
	Tag   uint64 // with an upgrade: comes back with each event of the connection (App.Event)

	// Of the WebSocket.
	Ring     int    // ring to follow, or NoRing
	History  uint32 // messages from the past to begin with, as far as the ring holds them
	Protocol string // subprotocol chosen among those the client offers (Headers.WsProtocol, ws.Offers); another is answered 500

	ContentType, CacheControl, ContentEncoding, Location string
	AllowOrigin, AllowMethods, AllowHeaders              string
	MaxAge                                               int64     // seconds, Access-Control-Max-Age
	RetryAfter                                           int       // seconds
	Allow                                                MethodSet // of the resource, for 405 and OPTIONS; a 405 without names all that are served
	Extra                                                []h1.Field

	StaticBody Static // or a body staged in the tile's reply ring: Stage.Body

	bodyOff uint64
	bodyLen uint32
	staged  bool
}

// Callbacks are what a tile tells its process, on the tile's thread. Any may be
// nil. None may block. A callback may stage in the tile's reply ring
// (NetTile.Stage) and close connections.
type Callbacks struct {
	// Request answers a whole request. nil answers 404.
	Request func(r *Request) Response
	// Open tells of an accepted connection, Close of its end: once each,
	// unless it became a WebSocket, whose end WsClose tells.
	Open  func(c ConnID)
	Close func(c ConnID, why CloseReason)
	// WsOpen is called once the 101 was sent, WsMessage for each whole
	// message (data is valid until it returns), WsClose at the end.
	WsOpen    func(c ConnID)
	WsMessage func(c ConnID, opcode byte, data []byte)
	WsClose   func(c ConnID, why CloseReason)
}
