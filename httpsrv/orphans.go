package httpsrv

import "golang.org/x/sys/unix"

// adoptOrphans admits the connections of listener fd that were accepted and came
// to no entry. Those that were answered already are of the refused, and let go.
func (t *NetTile) adoptOrphans(fd int) {
	rest := t.orphans[:0]
	for _, o := range t.orphans {
		if !sameAddress(o, fd) {
			rest = append(rest, o)
			continue
		}
		tx, _, state, err := sys.position(o)
		if err != nil || tx > 0 || state != tcpEstablished && state != tcpCloseWait || !t.setPeerOf(o) {
			sys.close(o)
			continue
		}
		t.admit(o)
	}
	t.orphans = rest
}

// sameAddress reports whether a connection came by a listener: by its port, or the name of its unix socket.
func sameAddress(conn, listener int) bool {
	of := func(fd int) any {
		sa, err := sys.sockname(fd)
		if err != nil {
			return nil
		}
		switch sa := sa.(type) {
		case *unix.SockaddrInet4:
			return sa.Port
		case *unix.SockaddrInet6:
			return sa.Port
		case *unix.SockaddrUnix:
			return sa.Name
		}
		return nil
	}
	a := of(conn)
	return a != nil && a == of(listener)
}

// setPeerOf puts the address of a connection's peer where accept leaves it.
func (t *NetTile) setPeerOf(fd int) bool {
	sa, err := sys.peername(fd)
	if err != nil {
		return false
	}
	a := &t.accepted
	*a = unix.RawSockaddrAny{}
	port := func(p int) { a.Addr.Data[0], a.Addr.Data[1] = int8(p>>8), int8(p) }
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		a.Addr.Family = unix.AF_INET
		port(sa.Port)
		for i, b := range sa.Addr {
			a.Addr.Data[2+i] = int8(b)
		}
	case *unix.SockaddrInet6:
		a.Addr.Family = unix.AF_INET6
		port(sa.Port)
		for i, b := range sa.Addr[:8] {
			a.Addr.Data[6+i] = int8(b)
		}
		for i, b := range sa.Addr[8:] {
			a.Pad[i] = int8(b)
		}
	default:
		return false
	}
	return true
}
