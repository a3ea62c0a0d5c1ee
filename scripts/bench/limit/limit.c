// limit is the yardstick of the benchmark: the least work that brings messages to WebSocket clients
// over TCP. One thread, one edge-triggered epoll, one ring of ready frames; each client is a byte cursor and
// gets everything pending in one send (--each: one send per message). It checks next to nothing; it is no
// server to be used. The protocol is that of package feed.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FD = 1 << 16, EVENTS = 512, RING_MAX = 4 << 20, LISTENER = 1, CREDITS = 2, TIMER = 3 };

struct client {
    uint64_t cursor;  // bytes of the stream that the socket has taken
    int index;        // in active[], -1 = not subscribed
    uint8_t state;    // 0 = awaits the request, 1 = streaming
    uint8_t blocked;  // the socket was full; an EPOLLOUT edge will come
};

static struct client clients[MAX_FD];
static int active[MAX_FD], active_cnt;
static int ep, size, each, fill;
static double rate;
static uint8_t *ring;
static uint64_t ring_sz, head, frame_sz, seq, limit;
static int64_t start;  // of publishing at a rate, 0: not yet
static int hdr_sz;
static char buf[65536];

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int64_t monotonic(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

// ---- the upgrade: SHA-1 and base64 (RFC 3174, RFC 4648)

static uint32_t rol(uint32_t v, int n) { return v << n | v >> (32 - n); }

static void sha1(const uint8_t *msg, size_t len, uint8_t out[20]) {  // len <= 119
    uint8_t m[128] = {0};
    size_t blocks = (len + 8) / 64 + 1;
    memcpy(m, msg, len);
    m[len] = 0x80;
    for (int i = 0; i < 8; i++) m[blocks * 64 - 1 - i] = (uint64_t)len * 8 >> (8 * i);
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    for (size_t b = 0; b < blocks; b++) {
        uint32_t w[80], a = h[0], bb = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 16; i++) {
            const uint8_t *p = m + b * 64 + i * 4;
            w[i] = (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
        }
        for (int i = 16; i < 80; i++) w[i] = rol(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        for (int i = 0; i < 80; i++) {
            uint32_t f, k;
            if (i < 20) f = (bb & c) | (~bb & d), k = 0x5a827999;
            else if (i < 40) f = bb ^ c ^ d, k = 0x6ed9eba1;
            else if (i < 60) f = (bb & c) | (bb & d) | (c & d), k = 0x8f1bbcdc;
            else f = bb ^ c ^ d, k = 0xca62c1d6;
            uint32_t t = rol(a, 5) + f + e + k + w[i];
            e = d, d = c, c = rol(bb, 30), bb = a, a = t;
        }
        h[0] += a, h[1] += bb, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++) out[i] = h[i / 4] >> (24 - 8 * (i % 4));
}

static void base64_20(const uint8_t *p, char out[28]) {
    static const char abc[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int i = 0; i < 7; i++) {
        uint32_t v = p[3 * i] << 16 | p[3 * i + 1] << 8 | (i < 6 ? p[3 * i + 2] : 0);
        for (int k = 0; k < 4; k++) out[4 * i + k] = abc[v >> (18 - 6 * k) & 63];
    }
    out[27] = '=';
}

// ---- clients

static void drop(int fd) {
    struct client *c = &clients[fd];
    if (c->index >= 0) {  // the last one takes its place
        active[c->index] = active[--active_cnt];
        clients[active[c->index]].index = c->index;
        c->index = -1;
    }
    close(fd);
}

// upgrade answers a request that lies in buf whole; load generators send it in one segment.
static void upgrade(int fd, ssize_t n) {
    struct client *c = &clients[fd];
    buf[n] = 0;
    char *key = strcasestr(buf, "Sec-WebSocket-Key: ");
    if (!key || strncmp(buf, "GET ", 4)) return drop(fd);
    uint8_t in[60], digest[20];
    memcpy(in, key + 19, 24);
    memcpy(in + 24, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    sha1(in, 60, digest);
    char accept[28], out[256];
    base64_20(digest, accept);
    int len = snprintf(out, sizeof out,
                       "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       "Sec-WebSocket-Accept: %.28s\r\n\r\n", accept);
    if (send(fd, out, len, MSG_NOSIGNAL) != len) return drop(fd);
    c->state = 1;
    c->cursor = head;
    if (!strncmp(buf, "GET /ws ", 8)) {
        c->index = active_cnt;
        active[active_cnt++] = fd;
    }
}

static void accept_all(int ln) {
    int fd, one = 1;
    while ((fd = accept4(ln, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        clients[fd] = (struct client){.index = -1};
        struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = fd};
        if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev)) die("epoll_ctl");
    }
}

// flush sends up to end (a position in the stream); returns 0 when the client was dropped.
static int flush(int fd, uint64_t end) {
    struct client *c = &clients[fd];
    while (c->cursor < end) {
        uint64_t at = c->cursor % ring_sz, n = end - c->cursor;
        if (n > ring_sz - at) n = ring_sz - at;
        ssize_t k = send(fd, ring + at, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (k < 0) {
            if (errno == EAGAIN) {
                c->blocked = 1;
                return 1;
            }
            drop(fd);
            return 0;
        }
        c->cursor += k;
    }
    return 1;
}

static void readable(int fd) {
    for (;;) {
        ssize_t n = recv(fd, buf, sizeof buf - 1, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) return drop(fd);
        if (clients[fd].state == 0) return upgrade(fd, n);
        if (((uint8_t)buf[0] & 15) == 8) return drop(fd);  // a close; pongs are of no interest
    }
}

// ---- publishing

static void publish_one(void) {
    uint8_t *p = ring + head % ring_sz + hdr_sz;  // frames never straddle the end: ring_sz is a multiple
    seq++;
    int64_t now = rate > 0 ? start + (int64_t)((seq - 1) / rate * 1e9) : monotonic();  // when it was due
    if (fill) {
        uint64_t x = (seq + 1) * 0x9e3779b97f4a7c15ull;  // package swarm, FillPayload
        x ^= x >> 29;
        uint64_t step = x * 0xbf58476d1ce4e5b9ull >> 1 | 1;
        for (int i = 16; i < size; i += 8, x += step) memcpy(p + i, &x, size - i < 8 ? size - i : 8);
    }
    memcpy(p, &seq, 8);
    memcpy(p + 8, &now, 8);
    head += frame_sz;
}

static void deliver(uint64_t from) {
    for (int i = 0; i < active_cnt; i++) {  // who would be overrun is evicted
        if (head - clients[active[i]].cursor > ring_sz) drop(active[i--]);
    }
    for (uint64_t end = each ? from + frame_sz : head; end <= head; end += frame_sz) {
        for (int i = 0; i < active_cnt; i++) {
            int fd = active[i];
            if (!clients[fd].blocked && !flush(fd, end)) i--;
        }
    }
}

static void publish(uint64_t to) {
    uint64_t most = ring_sz / frame_sz / 2;  // at most half the ring in one go
    while (seq < to) {
        uint64_t from = head;
        for (uint64_t n = 0; seq < to && n < most; n++) publish_one();
        deliver(from);
    }
}

int main(int argc, char **argv) {
    static const struct option opts[] = {{"listen", 1, 0, 'l'}, {"size", 1, 0, 's'}, {"rate", 1, 0, 'r'}, {"credits", 1, 0, 'c'},
                                         {"fill", 0, 0, 'f'}, {"each", 0, 0, 'e'}, {0}};
    char *listen_at = "127.0.0.1:0", *credits = NULL;
    size = 128;
    for (int o; (o = getopt_long(argc, argv, "", opts, NULL)) != -1;) {
        if (o == 'l') listen_at = optarg;
        else if (o == 's') size = atoi(optarg);
        else if (o == 'r') rate = atof(optarg);
        else if (o == 'c') credits = optarg;
        else if (o == 'f') fill = 1;
        else if (o == 'e') each = 1;
        else exit(2);
    }
    char *colon = strrchr(listen_at, ':');
    if (size < 16 || size > 65535 || !credits || !colon) {
        fprintf(stderr, "--credits is needed, --size is 16 to 65535, --listen is IP:PORT\n");
        exit(2);
    }
    hdr_sz = size < 126 ? 2 : 4;
    frame_sz = hdr_sz + size;
    ring_sz = RING_MAX / frame_sz * frame_sz;
    if (!(ring = calloc(1, ring_sz))) die("ring");
    for (uint64_t at = 0; at < ring_sz; at += frame_sz) {
        ring[at] = 0x82;
        ring[at + 1] = size < 126 ? size : 126;
        if (size >= 126) ring[at + 2] = size >> 8, ring[at + 3] = size;
    }

    *colon = 0;
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(atoi(colon + 1))};
    socklen_t sa_len = sizeof sa;
    int one = 1, ln = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(ln, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (inet_pton(AF_INET, listen_at, &sa.sin_addr) != 1 || bind(ln, (void *)&sa, sizeof sa) || listen(ln, 4096)) die("listen");
    getsockname(ln, (void *)&sa, &sa_len);
    int fifo = open(credits, O_RDWR | O_NONBLOCK);
    if (fifo < 0) die(credits);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    ep = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN};
    ev.data.u64 = (uint64_t)LISTENER << 32 | ln;
    epoll_ctl(ep, EPOLL_CTL_ADD, ln, &ev);
    ev.data.u64 = (uint64_t)CREDITS << 32 | fifo;
    epoll_ctl(ep, EPOLL_CTL_ADD, fifo, &ev);
    ev.data.u64 = (uint64_t)TIMER << 32 | timer;
    epoll_ctl(ep, EPOLL_CTL_ADD, timer, &ev);
    printf("listening %s:%d\n", listen_at, ntohs(sa.sin_port));
    fflush(stdout);

    static struct epoll_event evs[EVENTS];
    for (;;) {
        int n = epoll_wait(ep, evs, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            int fd = (int)evs[i].data.u64;
            uint64_t got[512];
            switch (evs[i].data.u64 >> 32) {
            case LISTENER:
                accept_all(fd);
                break;
            case CREDITS: {
                ssize_t k = read(fd, got, sizeof got);
                if (k >= 8) limit = got[k / 8 - 1];
                if (rate > 0 && !start) {
                    start = monotonic();
                    long ns = rate > 5000 ? 200000 : (long)(1e9 / rate);
                    struct itimerspec it = {{ns / 1000000000, ns % 1000000000}, {0, 1}};
                    timerfd_settime(timer, 0, &it, NULL);
                }
                break;
            }
            case TIMER:
                if (read(fd, got, 8) < 0) break;
                break;
            default:
                if ((evs[i].events & EPOLLOUT) && clients[fd].blocked) {
                    clients[fd].blocked = 0;
                    if (!flush(fd, head)) break;
                }
                if (evs[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) readable(fd);
            }
        }
        if (rate == 0) publish(limit);
        else if (start) publish((uint64_t)((monotonic() - start) * 1e-9 * rate) + 1);
    }
}
