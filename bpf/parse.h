/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* From the frame to the flow key. */
#ifndef STRATA_PARSE_H
#define STRATA_PARSE_H

#include "flow.h"
#include "neighbour.h"
#include "packet.h"

#define ETH_IPV4 0x0800
#define ETH_ARP 0x0806
#define ETH_VLAN 0x8100
#define ETH_QINQ 0x88a8
#define ETH_QINQ_OLD 0x9100
#define ETH_IPV6 0x86dd
#define ETH_PPPOE 0x8864
#define ETH_MPLS 0x8847
#define ETH_LLDP 0x88cc

struct ethernet_header {
	__u8 to[6], from[6];
	__u16 type_be;
};

struct ipv4_header {
	__u8 version_ihl, tos;
	__u16 total_be, id_be, fragment_be;
	__u8 ttl, proto;
	__u16 checksum_be;
	__u32 source_be, target_be;
};

struct ipv6_header {
	__u32 version_be;
	__u16 payload_be;
	__u8 next, hops;
	__u64 source[2], target[2];
};

struct tcp_header {
	__u16 source_be, target_be;
	__u32 seq_be, ack_be;
	__u8 offset, flags;
	__u16 window_be, checksum_be, urgent_be;
};

struct udp_header {
	__u16 source_be, target_be, length_be, checksum_be;
};

/* Transport ports and lengths; off is then that of the payload. 0, or -1 for a header
 * that does not fit: the packet still counts, as a flow without ports. */
static __always_inline int transport(struct __sk_buff *skb, struct packet *p, __u64 *c)
{
	struct tcp_header t ALIGNED;
	struct udp_header u ALIGNED;
	__u8 i[8] ALIGNED;
	__u32 header;

	if (p->key.proto == PROTO_TCP) {
		count(c, C_TCP, p->segments);
		if (p->fragment == 2)
			return 0;
		if (load(skb, p, p->off, &t, sizeof(t)))
			return -1;
		header = (t.offset >> 4) * 4;
		if (header < sizeof(t) || header > p->l4_len)
			return -1;
		p->sport = swap16(t.source_be);
		p->dport = swap16(t.target_be);
		p->seq = swap32(t.seq_be);
		p->ack = swap32(t.ack_be);
		p->window = swap16(t.window_be);
		p->tcp_flags = t.flags;
		p->off += header;
		p->payload_len = p->l4_len - header;
		return 0;
	}
	if (p->key.proto == PROTO_UDP) {
		count(c, C_UDP, p->segments);
		if (p->fragment == 2)
			return 0;
		if (load(skb, p, p->off, &u, sizeof(u)) || p->l4_len < sizeof(u))
			return -1;
		p->sport = swap16(u.source_be);
		p->dport = swap16(u.target_be);
		p->off += sizeof(u);
		p->payload_len = p->l4_len - sizeof(u);
		header = swap16(u.length_be);
		/* A GRO run has the first datagram's length; a fragment the whole one's. */
		if (p->segments == 1 && header >= sizeof(u) && header - sizeof(u) < p->payload_len)
			p->payload_len = header - sizeof(u);
		return 0;
	}
	if (p->key.proto != PROTO_ICMP && p->key.proto != PROTO_ICMP6) {
		count(c, C_OTHER_L4, p->segments);
		return 0;
	}
	count(c, C_ICMP, p->segments);
	if (p->fragment == 2)
		return 0;
	if (load(skb, p, p->off, i, sizeof(i)))
		return -1;
	if (p->ipv6 ? i[0] == 128 || i[0] == 129 : i[0] == 8 || i[0] == 0) {
		p->sport = p->dport = i[4] << 8 | i[5];
		return 0;
	}
	p->icmp_type = i[0];
	p->icmp_code = i[1];
	return 0;
}

static __always_inline void finish(struct __sk_buff *skb, struct packet *p, __u64 *c)
{
	__u32 start = p->off;
	int bad = transport(skb, p, c);

	if (bad) {
		count(c, C_BAD_L4, 1);
		p->no_l4 = 1;
	}
	/* Each further segment of a GRO run had headers of its own on the wire. */
	if (p->segments > 1) {
		p->wire_len += (p->segments - 1) * (p->off > start ? p->off : start);
	}
	p->dir = order(&p->key, p->sport, p->dport);
	if (p->ipv6 && p->key.proto == PROTO_ICMP6 && (p->icmp_type == ND_SOLICIT || p->icmp_type == ND_ADVERTISE))
		discovery(skb, p);
	flow_packet(skb, p, c);
}

/* Sum of the ten words of an IPv4 header without options; 0xffff where it is right. */
static __always_inline __u32 header_sum(const struct ipv4_header *h)
{
	const __u32 *w = (const __u32 *)h;
	__u64 sum = (__u64)w[0] + w[1] + w[2] + w[3] + w[4];

	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

static __always_inline int ipv4(struct __sk_buff *skb, struct packet *p, __u64 *c)
{
	struct ipv4_header h ALIGNED;
	struct tuning *t;
	__u32 ihl, total, have = p->wire_len - p->off;

	if (load(skb, p, p->off, &h, sizeof(h)))
		return -1;
	ihl = (h.version_ihl & 0xf) * 4;
	if (h.version_ihl >> 4 != 4 || ihl < sizeof(h))
		return -1;
	total = swap16(h.total_be);
	/* 0: written by segmentation offload, the frame's length holds. */
	if (!total || total > have)
		total = have;
	if (total < ihl)
		return -1;
	count(c, C_IPV4, p->segments);
	t = tuning();
	if (t && t->checksum && !p->egress && ihl == sizeof(h) && h.checksum_be && header_sum(&h) != 0xffff) {
		count(c, C_BAD_CHECKSUM, 1);
		p->marks |= 1u << MARK_BAD_CHECKSUM;
	}
	if (h.fragment_be & swap16(0x3fff)) {
		count(c, C_FRAGMENTS, 1);
		p->fragment = h.fragment_be & swap16(0x1fff) ? 2 : 1;
	}
	p->ttl = h.ttl;
	*(__u32 *)&p->key.proto = h.proto; /* and the padding: hashed as one word */
	mapped(p->key.lo, h.source_be);
	mapped(p->key.hi, h.target_be);
	p->off += ihl;
	p->l4_len = total - ihl;
	return 0;
}

#define EXTENSIONS 6

/* Skips extension headers, RFC 8200 section 4. Gives the upper protocol. */
static __noinline int extensions(struct __sk_buff *skb, struct packet *p, __u32 next)
{
	__u8 e[4] ALIGNED;
	__u32 i, len;

	for (i = 0; i < EXTENSIONS; i++) {
		if (next != 0 && next != 43 && next != 44 && next != 51 && next != 60 && next != 135)
			return next & 0xff;
		if (load(skb, p, p->off, e, 4))
			return -1;
		len = next == 44 ? 8 : next == 51 ? (e[1] + 2) * 4 : (e[1] + 1) * 8;
		if (len > p->l4_len)
			return -1;
		if (next == 44) {
			__u16 at = e[2] << 8 | e[3];
			if (at & 0xfff9) { /* an atomic fragment is whole */
				p->fragment = at & 0xfff8 ? 2 : 1;
			}
			count(counters(), C_FRAGMENTS, 1);
		}
		next = e[0];
		p->off += len;
		p->l4_len -= len;
		if (p->fragment == 2)
			return next & 0xff;
	}
	return -1;
}

static __always_inline int ipv6(struct __sk_buff *skb, struct packet *p, __u64 *c)
{
	struct ipv6_header h ALIGNED;
	__u32 have = p->wire_len - p->off;
	int proto;

	if (load(skb, p, p->off, &h, sizeof(h)))
		return -1;
	if (((__u8 *)&h)[0] >> 4 != 6 || have < sizeof(h))
		return -1;
	have -= sizeof(h);
	p->l4_len = swap16(h.payload_be);
	if (!p->l4_len || p->l4_len > have)
		p->l4_len = have;
	count(c, C_IPV6, p->segments);
	p->ipv6 = 1;
	p->ttl = h.hops;
	((__u64 *)p->key.lo)[0] = h.source[0];
	((__u64 *)p->key.lo)[1] = h.source[1];
	((__u64 *)p->key.hi)[0] = h.target[0];
	((__u64 *)p->key.hi)[1] = h.target[1];
	p->off += sizeof(h);
	proto = h.next;
	if (proto != PROTO_TCP && proto != PROTO_UDP && proto != PROTO_ICMP6) {
		proto = extensions(skb, p, proto);
		if (proto < 0)
			return -1;
	}
	*(__u32 *)&p->key.proto = proto;
	return 0;
}

static __always_inline void port_count(struct packet *p, const __u8 *to, __u64 *c)
{
	__u32 at = p->key.ifindex;
	struct interface_counters *n = 0;
	struct interface_dir *d;

	if (at < PORTS) {
		n = bpf_map_lookup_elem(&ports, &at);
		/* Keeps the compiler from making one call of the two: the kernel inlines the
		 * lookup only where it knows the map. */
		asm volatile("" : "+r"(n));
	} else {
		n = bpf_map_lookup_elem(&more_ports, &at);
	}
	if (to[0] & 1) {
		const __u16 *w = (const __u16 *)to;
		int all = (w[0] & w[1] & w[2]) == 0xffff;

		count(c, all ? C_BROADCAST : C_MULTICAST, 1);
		if (n) {
			d = &n->dir[p->egress & 1];
			if (all)
				d->broadcast++;
			else
				d->multicast++;
		}
	}
	if (!n) {
		count(c, C_INTERFACE_FAILS, 1);
		return;
	}
	d = &n->dir[p->egress & 1];
	d->packets += p->segments;
	d->bytes += p->wire_len;
}

/* Ethernet, with up to two tags inline; gives the EtherType, 0 for what is not parsed. */
static __always_inline __u32 ethernet(struct __sk_buff *skb, struct packet *p, __u64 *c, __u8 to[6])
{
	struct ethernet_header h ALIGNED;
	__u8 tag[4] ALIGNED;
	__u32 type, i;

	if (load(skb, p, 0, &h, sizeof(h))) {
		count(c, C_BAD_L2, 1);
		return 0;
	}
	copy_mac(to, h.to);
	copy_mac(p->mac, h.from);
	p->has_mac = 1;
	p->off = 14;
	type = swap16(h.type_be);
	if (!replay && skb->vlan_present) {
		p->key.vlan = skb->vlan_tci & 0xfff;
		p->wire_len += 4 * p->segments; /* taken out of the frame, not off the wire */
		count(c, C_VLAN, 1);
	}
#pragma unroll
	for (i = 0; i < 2; i++) {
		if (type != ETH_VLAN && type != ETH_QINQ && type != ETH_QINQ_OLD)
			break;
		if (load(skb, p, p->off, tag, 4)) {
			count(c, C_BAD_L2, 1);
			return 0;
		}
		if (i == 0 && !p->key.vlan)
			count(c, C_VLAN, 1);
		if (i == 0 && !p->key.vlan)
			p->key.vlan = (tag[0] << 8 | tag[1]) & 0xfff;
		else
			p->key.inner_vlan = (tag[0] << 8 | tag[1]) & 0xfff;
		type = tag[2] << 8 | tag[3];
		p->off += 4;
	}
	if (type == ETH_PPPOE) { /* session: 6 bytes, then the PPP protocol */
		__u8 s[8] ALIGNED;
		if (load(skb, p, p->off, s, sizeof(s))) {
			count(c, C_BAD_L2, 1);
			return 0;
		}
		p->off += 8;
		type = s[6] << 8 | s[7];
		type = type == 0x0021 ? ETH_IPV4 : type == 0x0057 ? ETH_IPV6 : ETH_PPPOE;
	}
	return type;
}

/* EtherTypes that are counted by kind. */
static __noinline void other(__u32 type)
{
	count(counters(), type < 0x600 ? C_LLC : type == ETH_LLDP ? C_LLDP : type == ETH_MPLS ? C_MPLS : C_OTHER_L3, 1);
}

static __always_inline void lengths(struct __sk_buff *skb, struct packet *p)
{
	if (replay) {
		p->now = skb->tstamp;
		p->len = skb->cb[0];
		p->wire_len = skb->cb[1];
		p->segments = 1;
		return;
	}
	p->now = bpf_ktime_get_boot_ns();
	p->len = skb->len;
	p->wire_len = skb->len;
	p->segments = skb->gso_segs;
	p->gso_size = skb->gso_size;
	if (!p->segments) {
		p->segments = 1;
		/* Offloaded by a guest that leaves the count to us. */
		if (p->gso_size)
			p->segments += (p->len - (p->len > 54 ? 54 : 0)) / p->gso_size;
	}
}

static __always_inline void classify(struct __sk_buff *skb, __u8 egress, int has_ethernet)
{
	__u32 zero = 0, type;
	struct cpu *own = bpf_map_lookup_elem(&totals, &zero);
	struct packet *p;
	__u64 *c;
	__u8 to[6] ALIGNED = {};
	int bad = -1;

	if (!own)
		return;
	c = own->totals;
	p = &own->packet;
	__builtin_memset(p, 0, sizeof(*p));
	p->egress = egress;
	p->key.ifindex = skb->ifindex;
	lengths(skb, p);
	type = has_ethernet ? ethernet(skb, p, c, to) : swap16(skb->protocol);
	count(c, C_PACKETS, p->segments);
	if (type == ETH_IPV4) {
		bad = ipv4(skb, p, c);
		if (bad)
			count(c, C_BAD_L3, 1);
	} else if (type == ETH_IPV6) {
		bad = ipv6(skb, p, c);
		if (bad)
			count(c, C_BAD_L3, 1);
	} else if (type == ETH_ARP) {
		count(c, C_ARP, 1);
		arp(skb, p);
	} else if (type) {
		other(type);
	}
	if (!bad)
		finish(skb, p, c);
	count(c, C_BYTES, p->wire_len);
	port_count(p, to, c);
}

#endif
