package httpsrv

import (
	"errors"
	"math"
	"strings"
	"testing"
)

func TestParamsRefused(t *testing.T) {
	for name, bad := range map[string][]func(p *Params){
		"MaxConnectionCnt":   {func(p *Params) { p.MaxConnectionCnt = 0 }, func(p *Params) { p.MaxConnectionCnt = 65537 }},
		"MaxWsConnectionCnt": {func(p *Params) { p.MaxWsConnectionCnt = 1<<20 + 1 }, func(p *Params) { p.MaxWsConnectionCnt = math.MaxUint32 }},
		"MaxRequestLen":      {func(p *Params) { p.MaxRequestLen = 63 }, func(p *Params) { p.MaxRequestLen = 1<<30 + 1 }},
		"MaxWsRecvFrameLen":  {func(p *Params) { p.MaxWsRecvFrameLen = p.MaxRequestLen - 1 }, func(p *Params) { p.MaxWsRecvFrameLen = math.MaxUint32 }},
		"MaxWsSendFrameCnt":  {func(p *Params) { p.MaxWsSendFrameCnt = 1<<32 + 1 }},
		"OutgoingBufferSz":   {func(p *Params) { p.OutgoingBufferSz = 4 }, func(p *Params) { p.OutgoingBufferSz = 100 }, func(p *Params) { p.OutgoingBufferSz = 1 << 41 }, func(p *Params) { p.OutgoingBufferSz = 0 }},
		"SideBufferSz":       {func(p *Params) { p.SideBufferSz = 9 }, func(p *Params) { p.SideBufferSz = 1 << 63 }},
		"RingDepth":          {func(p *Params) { p.RingDepth = 2 }, func(p *Params) { p.RingDepth = 6 }, func(p *Params) { p.RingDepth = 1 << 33 }},
		"ReplyBufferSz":      {func(p *Params) { p.ReplyBufferSz = 12 }},
		"ReplyDepth":         {func(p *Params) { p.ReplyDepth = 1 }},
		"TileCnt":            {func(p *Params) { p.TileCnt = 0 }, func(p *Params) { p.TileCnt = 256 }},
		"RingCnt":            {func(p *Params) { p.RingCnt = 0 }, func(p *Params) { p.RingCnt = 1025 }},
		"AppCnt":             {func(p *Params) { p.AppCnt = 65 }},
		"HeadBufCnt":         {func(p *Params) { p.HeadBufCnt = 1<<22 + 1 }},
		"RecvBufCnt":         {func(p *Params) { p.RecvBufCnt = 1 }, func(p *Params) { p.RecvBufCnt = 1<<20 + 1 }},
		"MsgBufCnt":          {func(p *Params) { p.MsgBufCnt = 1<<20 + 1 }},
		"PendingCnt":         {func(p *Params) { p.PendingCnt = 1<<24 + 1 }},
		"StaticSz":           {func(p *Params) { p.StaticSz = 1<<30 + 1 }},
	} {
		for i, f := range bad {
			p := rigParams()
			f(&p)
			_, err := Footprint(p)
			if !errors.Is(err, ErrParams) || !strings.Contains(err.Error(), name+" is ") {
				t.Errorf("%s case %d: %v", name, i, err)
			}
		}
	}
}

// The greatest parameters have a footprint that has not run over.
func TestParamsExtremes(t *testing.T) {
	p := Params{
		MaxConnectionCnt: 1 << 16, MaxWsConnectionCnt: 1 << 20, MaxRequestLen: 1 << 30, MaxWsRecvFrameLen: 1 << 30, MaxWsSendFrameCnt: 1 << 32,
		OutgoingBufferSz: 1 << 40, SideBufferSz: 1 << 40, RingDepth: 1 << 32, ReplyBufferSz: 1 << 40, ReplyDepth: 1 << 32,
		TileCnt: 255, RingCnt: 1024, AppCnt: 64, HeadBufCnt: 1 << 22, RecvBufCnt: 1 << 20, MsgBufCnt: 1 << 20, PendingCnt: 1 << 24, StaticSz: 1 << 30,
	}
	n, err := Footprint(p)
	if err != nil || n < 1024<<40 || n > 1<<62 {
		t.Error(n, err)
	}
	small := Params{MaxConnectionCnt: 1, MaxRequestLen: 64, MaxWsRecvFrameLen: 64, OutgoingBufferSz: 8, TileCnt: 1, RingCnt: 1}
	if n, err = Footprint(small); err != nil || n%Align() != 0 {
		t.Error(n, err)
	}
}

// Parts of the memory follow each other in the documented order and don't overlap.
func TestLayoutOrder(t *testing.T) {
	p := rigParams()
	p.TileCnt, p.RingCnt, p.AppCnt = 3, 2, 1
	p.Rings[1] = RingSize{OutgoingBufferSz: 1 << 12, RingDepth: 16}
	p, err := p.complete()
	if err != nil {
		t.Fatal(err)
	}
	if r := p.ring(1); r != (RingSize{1 << 12, 4096, 16}) || p.ring(0) != (RingSize{p.OutgoingBufferSz, p.SideBufferSz, p.RingDepth}) {
		t.Errorf("rings %+v", p.Rings[:2])
	}
	l, err := p.layout()
	if err != nil {
		t.Fatal(err)
	}
	order := []uint64{
		0, l.static, l.static + staticMax*staticEntrySz + p.StaticSz, l.ring0, l.rings[1].off + l.rings[1].sz, l.reply0, l.reply0 + 4*l.replySz, l.app0, l.app0 + appSlotSz, l.tile0,
		l.tile0 + l.counters, l.tile0 + l.conns, l.tile0 + l.pending, l.tile0 + l.req, l.tile0 + l.head, l.tile0 + l.recv, l.tile0 + l.msg,
		l.tile0 + l.evq0, l.tile0 + l.evq0 + l.evqSz, l.tile0 + l.tileSz, l.tile0 + 3*l.tileSz, l.total,
	}
	for i := range order[1:] {
		if order[i] > order[i+1] {
			t.Errorf("offset %d: %d lies behind %d", i, order[i], order[i+1])
		}
	}
	if again, err := p.complete(); err != nil || again != p {
		t.Errorf("completed twice: %+v, %v", again, err)
	}
}
