package main

import (
	"bytes"
	"encoding/json"

	"github.com/tilewire/tilewire/httpsrv"
)

// Error codes of JSON-RPC 2.0 (section 5.1), and one of the service's own.
const (
	codeParse    = -32700
	codeRequest  = -32600
	codeMethod   = -32601
	codeParams   = -32602
	codeNoSocket = -32000
)

type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// rpcCall is a request object (section 4). ID is nil in a notification.
type rpcCall struct {
	Version string          `json:"jsonrpc"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
	ID      json.RawMessage `json:"id"`
}

// rpcReply is a response object (section 5): a result, which may be null, or an error.
type rpcReply struct {
	Version string          `json:"jsonrpc"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *rpcError       `json:"error,omitempty"`
	ID      json.RawMessage `json:"id"`
}

var null = json.RawMessage("null")

// serve answers a call or a batch of them (section 6). nil: there is nothing to answer.
func (s *service) serve(c httpsrv.ConnID, in []byte) []byte {
	in = bytes.TrimSpace(in)
	var out any
	if len(in) > 0 && in[0] == '[' {
		var calls []json.RawMessage
		if err := json.Unmarshal(in, &calls); err != nil {
			return encode(failure(codeParse, "parse error"))
		}
		if len(calls) == 0 {
			return encode(failure(codeRequest, "an empty batch"))
		}
		var replies []*rpcReply
		for _, call := range calls {
			if r := s.call(c, call); r != nil {
				replies = append(replies, r)
			}
		}
		if replies == nil {
			return nil
		}
		out = replies
	} else {
		r := s.call(c, in)
		if r == nil {
			return nil
		}
		out = r
	}
	return encode(out)
}

func (s *service) call(c httpsrv.ConnID, in []byte) *rpcReply {
	if !json.Valid(in) {
		return failure(codeParse, "parse error")
	}
	var call rpcCall
	if err := json.Unmarshal(in, &call); err != nil || call.Version != "2.0" || call.Method == "" || !validID(call.ID) {
		return failure(codeRequest, "not a JSON-RPC 2.0 request")
	}
	result, fail := s.method(c, call.Method, call.Params)
	if call.ID == nil {
		return nil
	}
	if fail != nil {
		return &rpcReply{Version: "2.0", Error: fail, ID: call.ID}
	}
	return &rpcReply{Version: "2.0", Result: encode(result), ID: call.ID}
}

// validID: a string, a number or null (section 4).
func validID(id json.RawMessage) bool {
	return len(id) == 0 || id[0] != '{' && id[0] != '[' && id[0] != 't' && id[0] != 'f'
}

func failure(code int, text string) *rpcReply {
	return &rpcReply{Version: "2.0", Error: &rpcError{code, text}, ID: null}
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return null // only values of our own making come here
	}
	return b
}
