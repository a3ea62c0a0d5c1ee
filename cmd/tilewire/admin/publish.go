package admin

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tilewire/tilewire/httpsrv"
)

// publishBound is how long a send from the ring is waited for whose bytes the message needs.
const publishBound = 500 * time.Millisecond

// Published is what POST /publish/{topic} answers.
type Published struct {
	Topic string `json:"topic"`
	Seq   uint64 `json:"seq"`
	Epoch string `json:"epoch"` // hex, of the ring: a seq means nothing without
}

// publish makes the body one message. The producer's role is held only while it is staged, not while it is read from somebody slow.
func (s *Server) publish(w http.ResponseWriter, r *http.Request) {
	defer drain(r)
	name := r.PathValue("topic")
	ring, ok := s.in.Info.Ring(name)
	if !ok {
		fail(w, http.StatusNotFound, fmt.Sprintf("there is no topic %q", name))
		return
	}
	op, err := opcode(r.Header.Get("Content-Type"))
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	if r.ContentLength > maxMessage {
		tooLarge(w)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		tooLarge(w)
		return
	case err != nil:
		fail(w, http.StatusBadRequest, "the body did not come whole: "+err.Error())
		return
	case op == httpsrv.OpText && !utf8.Valid(body):
		fail(w, http.StatusBadRequest, "the text is not valid UTF-8; binary messages have Content-Type: application/octet-stream")
		return
	}
	seq, err := s.stage(ring, op, body)
	switch {
	case errors.Is(err, httpsrv.ErrRole):
		pid, _ := s.in.Server.Producer(ring)
		failWith(w, http.StatusConflict, map[string]any{"error": fmt.Sprintf("topic %s has a producer, process %d", name, pid), "holder_pid": pid})
	case errors.Is(err, httpsrv.ErrTooLarge):
		tooLarge(w)
	case errors.Is(err, httpsrv.ErrBusy):
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusServiceUnavailable, err.Error())
	case err != nil:
		fail(w, http.StatusInternalServerError, err.Error())
	default:
		p := Published{Topic: name, Seq: uint64(seq), Epoch: fmt.Sprintf("%016x", s.in.Server.Ring(ring).Epoch)}
		answer(w, r, http.StatusOK, p, func(w io.Writer) { fmt.Fprintln(w, p.Seq) })
	}
}

// stage publishes one message as the ring's producer.
func (s *Server) stage(ring int, op byte, body []byte) (httpsrv.Seq, error) {
	s.pub.Lock()
	defer s.pub.Unlock()
	st, err := s.in.Produce(ring, publishBound)
	if err != nil {
		return 0, err
	}
	defer st.Close()
	_, _ = st.Write(body) // the send reports what went wrong
	return st.WsBroadcast(op)
}

// drain takes what is left of a body that was refused, within bounds, so that a client gets to read why before it is cut
// off. One that asked first (Expect: 100-continue) has sent none.
func drain(r *http.Request) {
	if r.Header.Get("Expect") == "" {
		_, _ = io.CopyN(io.Discard, r.Body, 16*maxMessage)
	}
}

func tooLarge(w http.ResponseWriter) {
	fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("a message has %d bytes at most here, and no more than its topic allows (max_message_kib) and its ring takes", maxMessage))
}

// opcode is that of a message of this Content-Type: text for text/*, JSON, XML, forms (what curl -d says) and none; else binary.
func opcode(contentType string) (byte, error) {
	if contentType == "" {
		return httpsrv.OpText, nil
	}
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return 0, fmt.Errorf("Content-Type %q: %w", contentType, err)
	}
	if strings.HasPrefix(t, "text/") || strings.HasSuffix(t, "json") || strings.HasSuffix(t, "xml") || t == "application/x-www-form-urlencoded" {
		return httpsrv.OpText, nil
	}
	return httpsrv.OpBinary, nil
}
