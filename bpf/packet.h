/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* A packet as parsed, and the bounds-checked reads it is parsed with. */
#ifndef STRATA_PACKET_H
#define STRATA_PACKET_H

#include "maps.h"

#define swap16(x) __builtin_bswap16(x)
#define swap32(x) __builtin_bswap32(x)

#define TICK(ns) ((__u32)((ns) >> 10))
#define SECOND(ns) ((__u32)((ns) >> 30))

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define PROTO_ICMP 1
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_ICMP6 58

struct packet {
	__u64 now;
	struct flow_key key;
	__u32 len;      /* bytes that can be read: all of it live, the captured ones in a replay */
	__u32 wire_len; /* true frame length of the whole (GRO) packet */
	__u32 segments;
	__u32 gso_size; /* payload of a full segment of a GRO run */
	__u32 off; /* of the layer that is being parsed */
	__u32 l4_len; /* true length of what off points at, from the IP header */
	__u32 payload_len;
	__u32 seq;
	__u32 ack;
	__u32 marks; /* MARK_* bits that this packet brings */
	__u16 window;
	__u8 tcp_flags;
	__u8 ttl;
	__u8 dir;    /* 0: sent by lo */
	__u8 egress; /* left through the port */
	__u8 fragment; /* 1: a fragment, 2: not the first one */
	__u8 ipv6;
	__u8 new_data; /* payload that was not seen before */
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 has_mac;
	__u8 mac[6]; /* of the sender; 2-aligned */
};

/* The packet being parsed lives here and not on the stack: of what comes from a map the
 * verifier keeps no values, so it does not walk every combination of marks and lengths
 * apart. Nothing else runs on the CPU in between: both hooks have bottom halves off. */
MAP(packets, BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(struct packet), 1);

#define ALIGNED __attribute__((aligned(8)))

/* Copies len bytes (a constant) at off to an 8-aligned place. Headers beyond the linear
 * part go through the helper; pulling them in would alter the packet. The source is
 * called aligned so that the copy goes by words: every target reads unaligned packets. */
static __always_inline int load(struct __sk_buff *skb, const struct packet *p, __u32 off, void *to, __u32 len)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	__u64 at = off;

	if (at + len > p->len || at > 0x3fff)
		return -1;
	/* The bound again, in the very register that the verifier sees added. */
	asm volatile("%0 &= 0x3fff" : "+r"(at));
	if (data + at + len <= end) {
		__builtin_memcpy(__builtin_assume_aligned(to, 8), __builtin_assume_aligned(data + at, 8), len);
		return 0;
	}
	return bpf_skb_load_bytes(skb, at, to, len);
}

static __always_inline void copy_mac(__u8 *to, const __u8 *from)
{
	__u16 *t = (__u16 *)to;
	const __u16 *f = (const __u16 *)from;

	t[0] = f[0];
	t[1] = f[1];
	t[2] = f[2];
}

static __always_inline void copy_addr(__u8 *to, const __u8 *from)
{
	__u32 *t = (__u32 *)to; /* endpoint keys and stack copies are 4-aligned */
	const __u32 *f = (const __u32 *)from;

	t[0] = f[0];
	t[1] = f[1];
	t[2] = f[2];
	t[3] = f[3];
}

static __always_inline void bump16(__u16 *n)
{
	if (*n != 0xffff)
		(*n)++;
}

static __always_inline void mapped(__u8 to[16], __u32 addr_be)
{
	__u32 *w = (__u32 *)to;
	w[0] = 0;
	w[1] = 0;
	w[2] = 0xffff0000; /* bytes 00 00 ff ff */
	w[3] = addr_be;
}

/* 1 where a is after b in the fixed order of a key's ends. */
static __always_inline int after(const __u8 *a, const __u8 *b, __u16 ap, __u16 bp)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	if (x[0] != y[0])
		return x[0] > y[0];
	if (x[1] != y[1])
		return x[1] > y[1];
	return ap > bp;
}

/* Orders a key whose lo is the source; gives 1 where the source is now hi. */
static __always_inline int order(struct flow_key *k)
{
	__u64 *lo = (__u64 *)k->lo, *hi = (__u64 *)k->hi;
	__u64 a0 = lo[0], a1 = lo[1], b0 = hi[0], b1 = hi[1];
	__u16 ap = k->lo_port, bp = k->hi_port;

	if (!after(k->lo, k->hi, ap, bp))
		return 0;
	lo[0] = b0;
	lo[1] = b1;
	hi[0] = a0;
	hi[1] = a1;
	k->lo_port = bp;
	k->hi_port = ap;
	return 1;
}

#endif
