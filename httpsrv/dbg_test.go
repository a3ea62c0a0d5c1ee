package httpsrv
import ("testing";"fmt")
func dump(t *testing.T, s *Server, tl *NetTile) {
	fmt.Printf("ring %+v\n", s.Ring(0))
	rd := tl.rd[0]
	fmt.Printf("rd seen %d end %d from %d prev %d pinned %v over %d gap %v\n", rd.seen, rd.end, rd.from, rd.prev, rd.pinned, rd.overruns, []uint64{rd.r.hdr.gap[0].Load(), rd.r.hdr.gap[1].Load()})
	for i := range tl.conns { c := &tl.conns[i]; if c.state != 0 { fmt.Printf("conn %d %+v local %+v\n", i, c, tl.local[i]) } }
	cs, _ := s.Counters(0)
	for i, n := range cs.Names() { if v := cs.Cell(i).Load(); v != 0 { fmt.Println(n, v) } }
}
