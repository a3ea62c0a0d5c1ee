// Package httpsrv streams messages from a producer process to thousands of WebSocket clients, and answers HTTP/1.1
// requests, with all of its state in shared memory that several processes join.
//
// # Model
//
// A server lies in memory that the caller owns (shmem.Mem: a region, an allocation of a workspace, or heap memory in
// tests). It holds rings. A ring has one producer at a time, which stages one message at a time in the ring itself and
// publishes it at a cost that does not depend on the number of clients (Server.Produce, Stage). A network tile owns
// sockets and one epoll (Server.TakeTile, NetTile). A client of it is a cursor into a ring: in a pass it is sent
// everything between its cursor and the head, by one system call, straight from the ring, where frames stand back to back
// as they go over the wire. The ring is the history as well: a late joiner starts at an older cursor. Who is too slow
// for the ring is closed with 4001, or reset where the rest of its frame is gone; nobody else notices, and the producer
// goes on. Messages to one client and response bodies lie in a side area and keep their order with the broadcasts of
// their ring. Callbacks of a tile stage in a reply ring of the tile's own.
//
// An application may live in a process of its own (Server.TakeApp, App). A tile's callback forwards requests to it; it gets
// them, and the opens, messages and closes of their connections from then on, through a queue in each tile's memory, and answers
// through a reply ring of its own: responses, upgrades, messages, closes. One that is slow holds its clients up by TCP and loses
// nothing; when it is gone they get 503 and, unless it comes again in time, 1013 (docs/application.md).
//
// A role (producer of a ring, network tile, application) is a lock that the kernel keeps and that ends with its process; another process
// takes it over and goes on from what is in memory.
//
// # Memory
//
// Offsets, no pointers. Everything below is aligned to 4,096 bytes, the structs of different writers to 128.
//
//	header         magic (written last, cleared first), version, hash of the layout, size, Params
//	static         64 entries of 64 bytes, then Params.StaticSz bytes for static bodies
//	rings          RingCnt of: header, pins (128 bytes a tile), descriptors (64 bytes each), broadcast area, side area
//	reply rings    one for each tile, then one for each application; without broadcast area
//	applications   AppCnt of: pid, doorbell (1,024 bytes)
//	tiles          TileCnt of: role and doorbell, counters, connections, pending messages,
//	               request, head, receive and message buffers, an event queue for each application
//
// The areas of a ring are read and written modulo their size by stream offsets, which count bytes for ever:
//
//	limit                                     head           limit + size
//	  |   frame | frame | frame | ... | frame |  staged ...  |
//	  ^pin: a send reads here      ^ cursors
//
// A message never splits: one that does not fit before the end of the area begins at its start, and the gap before it is
// noted in the ring's header. A message of up to the area's size less its frame header is legal (Stage.Max).
//
// # Who writes what
//
//	ring: head, limits, gaps, descriptors, areas    its producer; of a reply ring, the tile or application whose it is
//	ring: a pin                                     the tile of that number, before and after each send
//	tile's part                                     that tile
//	event queue: head, want, walked, events         the tile in whose part it lies
//	event queue: tail, run, from                    the application
//	application's part                              the application
//	static bodies                                   AddStatic, in turn, under a lock
//	header                                          New and Delete
//
// No reader writes anything that a producer waits for but its pin, and a pin covers one send. How space is reclaimed
// without a torn byte is in docs/reclaim.md; a test explores its interleavings (-tags explore), another verifies every
// byte across processes.
//
// # How a message travels
//
//	stage.go     Write puts the payload into the ring, behind room for its header; reclaims space
//	publish.go   WsBroadcast puts the header before it, writes the descriptor, moves head, rings the doorbells
//	poll.go      NetTile.Poll finds that head has moved
//	deliver.go   walks the new descriptors once, then the clients once: pin, check the limit, send
//	shmem        Sendv (sys_unsafe.go), one system call a client and pass, from the ring to the socket
//
// What the kernel did not take, and everything that is not plain stream (pongs, messages to one client, responses, close
// frames, each between two frames) goes through send.go. What comes in goes receive.go, http.go or frames.go, then to the Callbacks;
// or by port.go and event.go to an application (app.go, appevent.go), whose answers come back by answer.go.
//
// # Names of the model
//
// Firedancer's fd_http_server is the model. Where its functions and fields are found here:
//
//	fd_http_server_align, footprint                  Align, Footprint
//	fd_http_server_new, join, leave, delete          New, Join, Server.Leave, Delete
//	fd_http_server_params                            Params: max_connection_cnt, max_ws_connection_cnt, max_request_len,
//	                                                 max_ws_recv_frame_len, max_ws_send_frame_cnt, outgoing_buffer_sz
//	fd_http_server_callbacks, callback_ctx           Callbacks in TileOptions (closures carry their context), or in
//	                                                 AppOptions, for an application in another process
//	fd_http_server_listen, fd                        NetTile.Listen, ListenFd, ListenSocket; NetTile.Fd
//	fd_http_server_poll                              NetTile.Poll
//	fd_http_server_close, ws_close                   NetTile.Close, WsClose; App.Close, WsClose
//	fd_http_server_printf, memcpy                    Stage.Printf; Stage.Write, WriteString, Append and Commit
//	fd_http_server_stage_trunc, stage_len, unstage   Stage.Trunc, Len, Unstage
//	fd_http_server_stage_body                        Stage.Body
//	fd_http_server_ws_send, ws_broadcast             Stage.WsSend, WsBroadcast
//	fd_http_server_request, response                 Request, Response; static_body is Server.AddStatic
//	fd_http_server_method_str                        Method.String
//	fd_http_server_connection_close_reason_str       CloseReason.String
//	connection_id                                    ConnID: unique until its slot had 2^31 connections
//
// seed_test.go walks this list. What differs: the staging error is kept until the next send, which reports it; responses,
// callbacks and the producer may be in different processes; a frame's opcode is an argument of the send; connections may live
// on after a response; every refusal has its HTTP status, every close its close frame.
//
// # Limits
//
// linux/amd64: the plain loads and stores of descriptors and payloads between two atomic accesses rely on total store order;
// other architectures are not proven. Request heads and bodies together are below Params.MaxRequestLen, response heads within
// 1,024 bytes, bodies within the reply ring or static; no Transfer-Encoding, no extension, no TLS. An HTTP connection ends with
// its response unless TileOptions.KeepAlive says otherwise; docs/http.md has what is served and refused. A tile has up
// to 65,536 requests and 1,048,576 streams. History counts every message of the ring, those to single clients too. A
// client that holds a receive or message buffer is closed after TileOptions.RequestTimeout only while others wait for one. What else
// a client is held to, and what happens to one that wants more, is in docs/hostile.md; what is refused with which close code in
// docs/websocket.md. New formats memory that nobody may be
// joined to; Join trusts a server's bounds after it has checked them, not what joined processes write later: who may write to
// the memory is trusted.
package httpsrv
