/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Bounds-checked reads of a packet, and small helpers. */
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
#define TCP_CONTROL (TCP_SYN | TCP_FIN | TCP_RST)

#define PROTO_ICMP 1
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_ICMP6 58

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

/* Keys are written in the words that they are read in: a load that spans two younger
 * stores stalls. to is 8-aligned. */
static __always_inline void mapped(__u8 to[16], __u32 addr_be)
{
	__u64 *w = (__u64 *)to;

	w[0] = 0;
	w[1] = 0xffff0000 | (__u64)addr_be << 32; /* bytes 00 00 ff ff, address */
}

/* Sets the ports of a key whose lo is the source, and orders it; gives 1 where the source
 * is now hi. */
static __always_inline int order(struct flow_key *k, __u16 sport, __u16 dport)
{
	__u64 *lo = (__u64 *)k->lo, *hi = (__u64 *)k->hi;
	__u64 a0 = lo[0], a1 = lo[1], b0 = hi[0], b1 = hi[1];
	__u32 *ports = (__u32 *)&k->lo_port;

	if (a0 != b0 ? a0 < b0 : a1 != b1 ? a1 < b1 : sport <= dport) {
		*ports = sport | (__u32)dport << 16;
		return 0;
	}
	lo[0] = b0;
	lo[1] = b1;
	hi[0] = a0;
	hi[1] = a1;
	*ports = dport | (__u32)sport << 16;
	return 1;
}

#endif
