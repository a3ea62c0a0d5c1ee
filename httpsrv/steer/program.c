//go:build ignore

// SPDX-License-Identifier: Apache-2.0
//
// Chooses the listener, of those that share a port, that a new connection goes to
// (docs/steering.md). Type sk_reuseport, attached as select-or-migrate: it is
// asked for each SYN, and for each connection that waits at a listener which is
// closed. None of the helpers is for GPL programs alone.
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define TILES 256 // a bound for loops; 255 are used
#define CPUS 1024
#define FAMILY_INET 2
#define ETH_IP 0x0008 // ETH_P_IP, ETH_P_IPV6 as they stand in the packet
#define ETH_IPV6 0xdd86
#define SYN 0x02
#define ACK 0x10
#define MOST ((1ull << 40) - 1)

enum { OFF, HASH, LEAST, CPU, SOURCE };

// What Go's structs head and tileCell mirror (shared.go says who writes what).
// The array is mapped as a whole; for this program it consists of cells, since a
// pointer that moves by a loop's counter is refused to those who have
// CAP_BPF and not CAP_PERFMON: it might be moved too far in speculation.
struct head {
	__u64 magic;
	__u32 version;
	__u32 tiles;
	__u64 seed;
	__u64 pad0[13];
	__u32 mode;
	__u32 pad1[31];
	__u64 passed;
	__u64 fell_back;
	__u64 empty;
	__u64 other;
	__u64 pad2[12];
};

struct tile {
	__u64 live;
	__u64 pad0[15];
	__u64 load;
	__u64 bias;
	__u64 pad1[14];
	__u64 sent;
	__u64 selected;
	__u64 migrated;
	__u64 pad2[13];
};

union cell {
	struct head head;
	struct tile tile;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1 + TILES); // Load makes it as large as it must be
	__type(key, __u32);
	__type(value, union cell);
} shared SEC(".maps");

struct { // tile+1 of each CPU, 0 for none
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CPUS);
	__type(key, __u32);
	__type(value, __u32);
} cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, TILES);
	__type(key, __u32);
	__type(value, __u64);
} listeners SEC(".maps");

#define READ(x) (*(volatile typeof(x) *)&(x))
#define HIDE(x) asm volatile("" : "+r"(x)) // what it is from the compiler
#define COUNT(x) ((void)__sync_fetch_and_add(&(x), 1))

// mix is splitmix64's finalizer.
static __always_inline __u64 mix(__u64 x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static __always_inline struct head *the_head(void)
{
	__u32 i = 0;

	return bpf_map_lookup_elem(&shared, &i);
}

static __always_inline struct tile *the_tile(__u32 i)
{
	i++; // behind the head
	return bpf_map_lookup_elem(&shared, &i);
}

// tile_of_cpu gives the tile of the CPU that this runs on, or TILES.
static __always_inline __u32 tile_of_cpu(void)
{
	__u32 cpu = bpf_get_smp_processor_id(), *tile = bpf_map_lookup_elem(&cpus, &cpu);

	return tile && *tile ? *tile - 1 : TILES;
}

// of_v6 gives what stands for an IPv6 address: its /64, which is what one
// customer is given, or the IPv4 address that is mapped in it.
static __always_inline __u64 of_v6(__u32 a, __u32 b, __u32 c, __u32 d)
{
	if (a == 0 && b == 0 && c == 0xffff0000) // as a little-endian machine reads 0000ffff
		return d;
	return (__u64)a << 32 | b;
}

// source gives what stands for the client's address. The context has none; a
// connection that migrates has perhaps no packet any more, but a socket.
static __always_inline __u64 source(struct sk_reuseport_md *ctx)
{
	struct bpf_sock *sk = ctx->migrating_sk;
	__u32 a[4] = {};

	if (sk) {
		if (sk->family == FAMILY_INET)
			return sk->dst_ip4;
		return of_v6(sk->dst_ip6[0], sk->dst_ip6[1], sk->dst_ip6[2], sk->dst_ip6[3]);
	}
	if (ctx->eth_protocol == ETH_IP) {
		bpf_skb_load_bytes_relative(ctx, 12, a, 4, BPF_HDR_START_NET);
		return a[0];
	}
	if (ctx->eth_protocol == ETH_IPV6)
		bpf_skb_load_bytes_relative(ctx, 8, a, 16, BPF_HDR_START_NET);
	return of_v6(a[0], a[1], a[2], a[3]);
}

// fresh tells whether this begins a connection here: a SYN, or a migration.
// What else comes is an ACK that answers a SYN cookie, or a stray.
static __always_inline int fresh(struct sk_reuseport_md *ctx)
{
	__u8 *tcp = ctx->data;

	if (ctx->migrating_sk)
		return 1;
	return (void *)(tcp + 14) <= ctx->data_end && (tcp[13] & (SYN | ACK)) == SYN;
}

// when gives all ones if x is not 0, else 0.
static __always_inline __u64 when(__u64 x)
{
	__u64 minus = -x;

	HIDE(minus); // it would make a branch of it
	return (__s64)(x | minus) >> 63;
}

// choose gives the live tile with the lowest score, a and b left out: its connections and
// those on their way if least, ties broken by the key; else a hash of key and tile,
// so that when a tile goes only its own share goes elsewhere. TILES: there is
// none. The verifier goes through all rounds of the loop and both ways of each branch
// in it: there is none that depends on a tile, and it is a function of its own,
// so that what follows is not looked at for each tile.
__noinline __u32 choose(__u64 key, __u32 tiles, __u32 least, __u32 a, __u32 b)
{
	__u64 best = ~0ull >> 1;
	__u32 at = TILES;

	for (__u32 i = 0; i < TILES; i++) {
		if (i >= tiles)
			break;
		struct tile *t = the_tile(i);
		if (!t)
			break;
		__u64 score = mix(key + i * 0x9e3779b97f4a7c15ull) >> 2;
		if (least) // a tile may write what it likes
			score = ((READ(t->sent) + READ(t->bias)) & MOST) << 16 | (score & 0xffff);
		__u64 may = when(READ(t->live)) & when(i ^ a) & when(i ^ b);
		may &= when((score - best) >> 63); // lower
		HIDE(may);
		best = (score & may) | (best & ~may);
		at = (i & may) | (at & ~may);
	}
	return at;
}

SEC("sk_reuseport/migrate")
int steer(struct sk_reuseport_md *ctx)
{
	struct head *h = the_head();

	if (!h)
		return SK_PASS;
	__u32 mode = READ(h->mode), tiles = h->tiles, at = TILES, a = TILES, b = TILES;
	int new = fresh(ctx);
	if (!new)
		COUNT(h->other);
	if (mode == OFF) {
		if (new)
			COUNT(h->passed);
		return SK_PASS; // no socket is chosen: the kernel's hash does it
	}
	if (mode == CPU)
		at = tile_of_cpu();
	__u64 key = mix((mode == SOURCE ? source(ctx) : ctx->hash) ^ h->seed);
	for (int tries = 0; tries < 3; tries++) {
		struct tile *t = the_tile(at);
		if (at >= tiles || !t || !READ(t->live)) {
			at = choose(key, tiles, mode == LEAST, a, b);
			t = the_tile(at);
			if (at >= tiles || !t)
				break; // none is live
		}
		if (new) // if it has no listener as well: it would be everybody's choice
			COUNT(t->sent);
		__u32 slot = at;
		if (bpf_sk_select_reuseport(ctx, &listeners, &slot, 0) == 0) {
			__u64 moved = ctx->migrating_sk != 0, came = new - moved;
			HIDE(moved); // it would choose between pointers, which see above
			__sync_fetch_and_add(&t->migrated, moved);
			__sync_fetch_and_add(&t->selected, came);
			return SK_PASS;
		}
		COUNT(h->empty); // ENOENT: closed, and not yet known to be dead
		b = a;
		a = at;
		at = TILES;
	}
	if (new)
		COUNT(h->fell_back);
	return SK_PASS;
}

char _license[] SEC("license") = "Apache-2.0";
