/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* ARP (RFC 826, 5227) and neighbour discovery (RFC 4861): who asks, who answers, and
 * whether two stations claim one address. */
#ifndef STRATA_NEIGHBOUR_H
#define STRATA_NEIGHBOUR_H

#include "packet.h"

#define CONFLICT_NS (60ull * 1000000000ull)

static __always_inline struct neighbour *neighbour_entry(struct neighbour_key *k)
{
	struct neighbour *n = bpf_map_lookup_elem(&neighbours, k);
	struct neighbour fresh = {};

	if (n)
		return n;
	if (bpf_map_update_elem(&neighbours, k, &fresh, BPF_NOEXIST))
		count(counters(), C_NEIGHBOUR_FAILS, 1);
	return bpf_map_lookup_elem(&neighbours, k);
}

static __always_inline int same_mac(const __u8 *a, const __u8 *b)
{
	const __u16 *x = (const __u16 *)a, *y = (const __u16 *)b;
	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

static __noinline void neighbour_request(struct neighbour_key *k, __u64 now)
{
	struct neighbour *n = neighbour_entry(k);

	count(counters(), C_NEIGHBOUR_REQUESTS, 1);
	if (!n)
		return;
	n->requests++;
	if (!n->unanswered)
		n->first_unanswered_ns = now;
	n->unanswered++;
	n->last_request_ns = now;
}

#define CLAIM_REPLY 1
#define CLAIM_GRATUITOUS 2

/* The station mac says that it has the address. */
static __noinline void neighbour_claim(struct neighbour_key *k, const __u8 *mac, __u64 now, __u32 how)
{
	struct neighbour *n = neighbour_entry(k);
	__u64 *c = counters();

	if (how == CLAIM_REPLY)
		count(c, C_NEIGHBOUR_REPLIES, 1);
	if (!n)
		return;
	if (how == CLAIM_REPLY)
		n->replies++;
	if (how == CLAIM_GRATUITOUS)
		n->gratuitous++;
	n->unanswered = 0;
	n->first_unanswered_ns = 0;

	if (!n->claimed_ns || same_mac(n->mac, mac)) {
		if (n->other_ns > n->claimed_ns)
			n->flips++;
		copy_mac(n->mac, mac);
		n->claimed_ns = now;
		return;
	}
	if (now - n->claimed_ns > CONFLICT_NS) {
		copy_mac(n->other, n->mac);
		copy_mac(n->mac, mac);
		n->other_ns = n->claimed_ns;
		n->claimed_ns = now;
		n->mac_changes++;
		return;
	}
	if (n->other_ns <= n->claimed_ns)
		n->flips++;
	copy_mac(n->other, mac);
	n->other_ns = now;
	n->conflict_ns = now;
	n->conflicts++;
	count(c, C_NEIGHBOUR_CONFLICTS, 1);
}

struct arp_body { /* Ethernet and IPv4 */
	__u16 hardware_be;
	__u16 protocol_be;
	__u8 hlen, plen;
	__u16 op_be;
	__u8 sender_mac[6];
	__u8 sender_ip[4];
	__u8 target_mac[6];
	__u8 target_ip[4];
};

static __noinline void arp(struct __sk_buff *skb, struct packet *p)
{
	struct neighbour_key k ALIGNED = { .ifindex = p->key.ifindex, .vlan = p->key.vlan };
	struct arp_body a ALIGNED;
	__u32 sender, target;
	int request;

	if (load(skb, p, p->off, &a, sizeof(a))) {
		count(counters(), C_BAD_L3, 1);
		return;
	}
	if (a.protocol_be != swap16(0x0800) || a.hlen != 6 || a.plen != 4)
		return;
	__builtin_memcpy(&sender, a.sender_ip, 4);
	__builtin_memcpy(&target, a.target_ip, 4);
	request = a.op_be == swap16(1);
	if (!request && a.op_be != swap16(2))
		return;

	/* A probe asks with sender 0.0.0.0 and claims nothing. */
	if (sender) {
		mapped(k.addr, sender);
		neighbour_claim(&k, a.sender_mac, p->now,
				sender == target ? CLAIM_GRATUITOUS : request ? 0 : CLAIM_REPLY);
	}
	if (request && target && sender != target) {
		mapped(k.addr, target);
		neighbour_request(&k, p->now);
	}
}

#define ND_SOLICIT 135
#define ND_ADVERTISE 136

struct nd_body {
	__u8 type, code;
	__u16 checksum_be;
	__u32 flags_be; /* advertisement: R, S, O */
	__u8 target[16];
	__u8 option, option_len; /* absent in the shortest ones */
	__u8 mac[6];
};

static __noinline void discovery(struct __sk_buff *skb, struct packet *p)
{
	struct neighbour_key k = { .ifindex = p->key.ifindex, .vlan = p->key.vlan };
	struct nd_body n ALIGNED = {};
	const __u64 *source;
	__u8 *mac = p->mac;

	if (load(skb, p, p->off, &n, 24)) {
		count(counters(), C_BAD_L4, 1);
		return;
	}
	if (p->l4_len >= sizeof(n))
		load(skb, p, p->off + 24, &n.option, 8);
	/* Source link-layer address in a solicitation, target's in an advertisement. */
	if (n.option_len == 1 && n.option == (n.type == ND_SOLICIT ? 1 : 2))
		mac = n.mac;

	if (n.type == ND_ADVERTISE) {
		copy_addr(k.addr, n.target);
		neighbour_claim(&k, mac, p->now, n.flags_be & swap32(0x40000000) ? CLAIM_REPLY : CLAIM_GRATUITOUS);
		return;
	}
	source = (const __u64 *)(p->dir & 1 ? p->key.hi : p->key.lo);
	if (source[0] || source[1]) { /* not a duplicate address probe */
		copy_addr(k.addr, (const __u8 *)source);
		neighbour_claim(&k, mac, p->now, 0);
	}
	copy_addr(k.addr, n.target);
	neighbour_request(&k, p->now);
}

#endif
