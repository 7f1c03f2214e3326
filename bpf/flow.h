/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Finding, making and updating the entry of a packet's flow. */
#ifndef STRATA_FLOW_H
#define STRATA_FLOW_H

#include "admit.h"
#include "icmp.h"
#include "packet.h"
#include "tcp.h"
#include "telltale.h"

/* A new entry's first facts. The initiator is a guess until a SYN is seen: the sender,
 * or the other end where only the sender's port is a well-known one. */
static __always_inline void begin(struct flow_value *f, struct packet *p, __u32 flags)
{
	__u16 sport = p->sport, dport = p->dport;
	__u32 hi = p->dir & 1;
	struct tuning *t = tuning();
	__u64 *c = counters();

	if (p->tcp_flags & TCP_SYN)
		hi ^= !!(p->tcp_flags & TCP_ACK);
	else if (sport < 1024 && dport >= 1024 && p->key.proto != PROTO_ICMP && p->key.proto != PROTO_ICMP6 && !p->fragment)
		hi ^= 1;
	if (hi)
		flags |= FLOW_INITIATOR_HI;
	if (p->egress)
		flags |= FLOW_FIRST_EGRESS;
	if (p->ipv6)
		flags |= FLOW_IPV6;
	f->first_ns = p->now;
	f->flags = flags;
	f->dir[0].ttl_min = f->dir[1].ttl_min = 0xff;
	if (!t)
		return;
	admission(f, p, t->generation);
	/* Of all that began: those that moved are counted in both tables. */
	if (t->sample_every && c &&
	    (c[C_FLOW_CREATES] + c[C_HALF_CREATES] - c[C_HALF_MOVES]) % t->sample_every == 0)
		admit(f, FLOW_ADMIT_SAMPLE, SECOND(p->now) + t->flow_s);
}

static __noinline struct flow_value *flow_new(struct packet *p)
{
	__u32 zero = 0;
	struct flow_value *f, *start = bpf_map_lookup_elem(&blank, &zero);
	__u64 *c = counters();

	if (!start)
		return 0;
	if (p->key.proto == PROTO_TCP) {
		int syn = (p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;

		f = bpf_map_lookup_elem(&half_open, &p->key);
		if (f && syn && (p->dir & 1) == !!(f->flags & FLOW_INITIATOR_HI))
			return f;
		if (f) {
			/* The first answer, or anything but a SYN: it moves to the flows. */
			f->flags &= ~FLOW_HALF_OPEN;
			if (bpf_map_update_elem(&flows, &p->key, f, BPF_NOEXIST)) {
				count(c, C_FLOW_FAILS, 1);
				return f;
			}
			bpf_map_delete_elem(&half_open, &p->key);
			count(c, C_FLOW_CREATES, 1);
			count(c, C_HALF_MOVES, 1);
			return bpf_map_lookup_elem(&flows, &p->key);
		}
		if (syn) {
			if (bpf_map_update_elem(&half_open, &p->key, start, BPF_NOEXIST)) {
				count(c, C_HALF_FAILS, 1);
				return 0;
			}
			count(c, C_HALF_CREATES, 1);
			f = bpf_map_lookup_elem(&half_open, &p->key);
			if (f)
				begin(f, p, FLOW_HALF_OPEN);
			return f;
		}
	}
	if (bpf_map_update_elem(&flows, &p->key, start, BPF_NOEXIST)) {
		/* Full, or another CPU was faster. */
		f = bpf_map_lookup_elem(&flows, &p->key);
		if (!f)
			count(c, C_FLOW_FAILS, 1);
		return f;
	}
	count(c, C_FLOW_CREATES, 1);
	f = bpf_map_lookup_elem(&flows, &p->key);
	if (f)
		begin(f, p, 0);
	return f;
}

/* Requests of the initiator and the responder's first bytes after them. */
static __always_inline void response(struct flow_value *f, struct packet *p)
{
	__u32 us;

	if ((p->dir & 1) == !!(f->flags & FLOW_INITIATOR_HI)) {
		if (!f->wait_since_ns)
			f->wait_since_ns = p->now;
		return;
	}
	if (!f->wait_since_ns)
		return;
	us = ticks_us((__u32)((p->now - f->wait_since_ns) >> 10));
	f->wait_since_ns = 0;
	f->responses++;
	f->response_sum_us += us;
	f->response_last_us = us;
	if (us > f->response_max_us)
		f->response_max_us = us;
}

static __always_inline void flow_ttl(struct flow_dir *d, struct packet *p)
{
	if (p->ttl < d->ttl_min) {
		if (d->packets)
			p->marks |= 1u << MARK_TTL_CHANGE;
		d->ttl_min = p->ttl;
	}
	if (p->ttl > d->ttl_max) {
		if (d->packets)
			p->marks |= 1u << MARK_TTL_CHANGE;
		d->ttl_max = p->ttl;
	}
}

static __always_inline void flow_packet(struct __sk_buff *skb, struct packet *p, __u64 *c)
{
	struct flow_value *f = bpf_map_lookup_elem(&flows, &p->key);
	struct tuning *t = tuning();
	struct flow_dir *d;
	__u32 each;

	if (!f) {
		f = flow_new(p);
		if (!f)
			return;
	}
	if (!t)
		return;
	d = &f->dir[p->dir & 1];
	f->last_ns = p->now;
	flow_ttl(d, p);
	if (p->has_mac)
		copy_mac(d->mac, p->mac);
	p->new_data = p->payload_len != 0;
	if (p->key.proto == PROTO_TCP && p->fragment != 2 && !p->no_l4)
		tcp_update(f, p, c);
	/* Two CPUs may carry one direction at once. The sum is not fetched: that instruction
	 * is as old as eBPF, and every JIT has it. */
	__sync_fetch_and_add(&d->packets, p->segments);
	__sync_fetch_and_add(&d->bytes, p->wire_len);
	if (p->fragment) {
		bump16(&f->fragments);
		p->marks |= 1u << MARK_FRAGMENT;
	}
	if (p->payload_len) {
		d->payload_packets += p->segments;
		each = p->payload_len;
		if (p->segments > 1)
			each = p->gso_size;
		if (each > d->max_payload)
			d->max_payload = each > 0xffff ? 0xffff : each;
		if (p->new_data)
			response(f, p);
		if (plausible(skb, p))
			p->marks |= telltale(skb, p);
		else if (p->payload_len <= TLS_ALERT_MOST && f->wait_since_ns == p->now && f->responses == 1 &&
			 f->flags & FLOW_SYN_SEEN && p->key.proto == PROTO_TCP)
			p->marks |= hidden_alert(skb, p);
	}
	if (p->marks) {
		if (p->marks & 1u << MARK_BAD_CHECKSUM)
			bump16(&f->bad_checksums);
		suspect(f, &p->key, p->now, p->marks);
	}
	if (p->icmp_type | p->icmp_code)
		icmp_error(skb, p, f);
	/* A new connection on known ports: its endpoint may have been admitted meanwhile. */
	if (f->admit_generation != (__u16)t->generation ||
	    ((p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN && f->first_ns != p->now))
		admission(f, p, t->generation);
	if ((p->payload_len || p->tcp_flags & TCP_CONTROL) && (f->flags & FLOW_ADMITTED || t->deep_all))
		deliver(skb, p, f);
}

#endif
