/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* ICMP (RFC 792) and ICMPv6 (RFC 4443) errors, charged to the flow they are about. */
#ifndef STRATA_ICMP_H
#define STRATA_ICMP_H

#include "admit.h"
#include "packet.h"

/* The class of an error, -1 for what is not one. */
static __always_inline int icmp_class(__u8 type, __u8 code, int ipv6)
{
	if (ipv6) {
		switch (type) {
		case 1:
			return code == 4 ? ICMP_CLASS_PORT :
			       code == 1 || code >= 5 ? ICMP_CLASS_PROHIBITED : ICMP_CLASS_UNREACHABLE;
		case 2:
			return ICMP_CLASS_FRAG_NEEDED;
		case 3:
			return ICMP_CLASS_TTL;
		case 4:
			return ICMP_CLASS_OTHER;
		}
		return -1;
	}
	switch (type) {
	case 3:
		return code == 3 ? ICMP_CLASS_PORT :
		       code == 4 ? ICMP_CLASS_FRAG_NEEDED :
		       code == 9 || code == 10 || code == 13 ? ICMP_CLASS_PROHIBITED : ICMP_CLASS_UNREACHABLE;
	case 11:
		return ICMP_CLASS_TTL;
	case 4:
	case 5:
	case 12:
		return ICMP_CLASS_OTHER;
	}
	return -1;
}

static __always_inline void charge(struct flow_value *f, int class, __u16 mtu)
{
	__u64 i = class;

	asm volatile("" : "+r"(i)); /* one register for the test and the index */
	if (i >= STRATA_ICMP_CLASSES)
		return;
	bump16(&f->icmp[i]);
	if (class == ICMP_CLASS_FRAG_NEEDED)
		f->mtu = mtu;
}

/* Reads the key of the packet that the error quotes: 0 when its Lo end sent it, 1 when its
 * Hi end did, -1 when there is none. */
static __noinline int quoted(struct __sk_buff *skb, struct packet *p, struct flow_key *k)
{
	__u8 h[40] ALIGNED;
	__u16 ports[2] ALIGNED = {};
	__u32 at = p->off + 8, addr;
	int v6 = p->ipv6;

	k->ifindex = p->key.ifindex;
	k->vlan = p->key.vlan;
	k->inner_vlan = p->key.inner_vlan;
	if (v6) {
		if (load(skb, p, at, h, 40))
			return -1;
		k->proto = h[6];
		copy_addr(k->lo, h + 8);
		copy_addr(k->hi, h + 24);
		at += 40;
	} else {
		if (load(skb, p, at, h, 20) || (h[0] & 0xf) < 5)
			return -1;
		k->proto = h[9];
		addr = *(__u32 *)(h + 12);
		mapped(k->lo, addr);
		addr = *(__u32 *)(h + 16);
		mapped(k->hi, addr);
		at += (h[0] & 0xf) * 4;
	}
	if (k->proto == PROTO_TCP || k->proto == PROTO_UDP) {
		if (load(skb, p, at, ports, 4))
			return -1;
	} else if (k->proto == PROTO_ICMP || k->proto == PROTO_ICMP6) {
		if (load(skb, p, at, h, 8))
			return -1;
		if (h[0] == 8 || h[0] == 128)
			ports[0] = ports[1] = h[4] | h[5] << 8;
	}
	return order(k, swap16(ports[0]), swap16(ports[1]));
}

/* own is the entry of the ICMP conversation itself, which is charged too: a replay or a
 * one-sided route may never show the flow that the error is about. */
static __noinline void icmp_error(struct __sk_buff *skb, struct packet *p, struct flow_value *own)
{
	struct flow_key k ALIGNED = {};
	struct flow_value *f;
	__u16 mtu_be ALIGNED = 0, mtu;
	int class = icmp_class(p->icmp_type, p->icmp_code, p->ipv6), sender;
	__u64 *c = counters();

	if (class < 0 || class >= STRATA_ICMP_CLASSES)
		return;
	count(c, C_ICMP_UNREACHABLE + class, 1);
	load(skb, p, p->off + 6, &mtu_be, 2);
	mtu = swap16(mtu_be);
	charge(own, class, mtu);
	own->marks |= 1u << MARK_ICMP_ERROR;
	sender = quoted(skb, p, &k);
	if (sender < 0) {
		count(c, C_ICMP_UNMATCHED, 1);
		return;
	}
	f = bpf_map_lookup_elem(&flows, &k);
	if (!f)
		f = bpf_map_lookup_elem(&half_open, &k);
	if (!f) {
		count(c, C_ICMP_UNMATCHED, 1);
		return;
	}
	/* A client that has closed its port before the answer came says nothing of the service. */
	if (class == ICMP_CLASS_PORT && sender != !!(f->flags & FLOW_INITIATOR_HI))
		class = ICMP_CLASS_OTHER;
	charge(f, class, mtu);
	f->last_ns = p->now;
	suspect(f, &k, p->now, 1u << MARK_ICMP_ERROR);
}

#endif
