package h1

// Method is a request method.
type Method uint8

// The methods that are recognised. Anything else is MethodUnknown and answered 501.
const (
	MethodUnknown Method = iota
	GET
	HEAD
	POST
	PUT
	OPTIONS
	DELETE
	PATCH
	TRACE
	CONNECT

	methodCnt
)

var methodStr = [methodCnt]string{"unknown", "GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE", "PATCH", "TRACE", "CONNECT"}

// String returns the method as it stands in a request line, "unknown" for all others.
func (m Method) String() string {
	if m < methodCnt {
		return methodStr[m]
	}
	return methodStr[MethodUnknown]
}

// methodOf maps the token of a request line; methods are case sensitive (RFC 9110 9.1).
func methodOf(t []byte) Method {
	switch string(t) { // compiled to comparisons, without allocation
	case "GET":
		return GET
	case "HEAD":
		return HEAD
	case "POST":
		return POST
	case "PUT":
		return PUT
	case "OPTIONS":
		return OPTIONS
	case "DELETE":
		return DELETE
	case "PATCH":
		return PATCH
	case "TRACE":
		return TRACE
	case "CONNECT":
		return CONNECT
	}
	return MethodUnknown
}

// MethodSet is a set of methods, bit m for method m.
type MethodSet uint16

// Served holds the methods that the server implements: GET, HEAD, POST, PUT, OPTIONS.
const Served MethodSet = 1<<GET | 1<<HEAD | 1<<POST | 1<<PUT | 1<<OPTIONS

// Methods returns the set of ms.
func Methods(ms ...Method) MethodSet {
	var s MethodSet
	for _, m := range ms {
		s |= 1 << m
	}
	return s
}

// Has reports whether m is in the set.
func (s MethodSet) Has(m Method) bool { return m < methodCnt && s>>m&1 != 0 }
