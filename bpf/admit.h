/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Suspicion and what follows from it: the score, admission of a flow and its endpoint,
 * and delivery of payload within budgets. */
#ifndef STRATA_ADMIT_H
#define STRATA_ADMIT_H

#include "packet.h"

/* What a suspicious endpoint may have each second when its budget is spent. */
#define STRATA_RENEW 16384
#define STRATA_RENEW_SYNS 64

#define ADMIT_REASONS (FLOW_ADMITTED | FLOW_ADMIT_SCORE | FLOW_ADMIT_ENDPOINT | FLOW_ADMIT_USER | FLOW_ADMIT_SAMPLE)

static __always_inline void admit(struct flow_value *f, __u32 why, __u32 until)
{
	if (!(f->flags & FLOW_ADMITTED)) {
		f->dir[0].sent_bytes = f->dir[1].sent_bytes = 0;
		f->dir[0].sent_packets = f->dir[1].sent_packets = 0;
		f->dir[0].sent_controls = f->dir[1].sent_controls = 0;
		count(counters(), C_ADMIT_FLOWS, 1);
	}
	f->flags |= FLOW_ADMITTED | why;
	if (until > f->admit_until_s)
		f->admit_until_s = until;
}

/* The end of a flow that serves: the responder. */
static __always_inline void service(struct endpoint_key *k, const struct flow_value *f, const struct flow_key *key)
{
	int hi = !(f->flags & FLOW_INITIATOR_HI);

	copy_addr(k->addr, hi ? key->hi : key->lo);
	k->port = hi ? key->hi_port : key->lo_port;
	k->proto = key->proto;
	k->pad = 0;
}

/* Looks up what has been admitted by name: for new flows, and for every flow once after
 * user space has admitted something. */
static __noinline void admission(struct flow_value *f, struct packet *p, __u32 generation)
{
	__u32 second = SECOND(p->now);
	struct flow_admission *a = bpf_map_lookup_elem(&admissions, &p->key);
	struct endpoint_key k;
	struct endpoint *e;

	if (a && a->until_s >= second &&
	    (!(f->flags & FLOW_ADMIT_USER) || (__s16)(a->generation - f->admit_generation) > 0)) {
		f->flags &= ~FLOW_ADMITTED; /* re-armed */
		admit(f, FLOW_ADMIT_USER, a->until_s);
	}
	service(&k, f, &p->key);
	e = bpf_map_lookup_elem(&endpoints, &k);
	if (e && e->until_s >= second && e->bytes_left)
		admit(f, FLOW_ADMIT_ENDPOINT, e->until_s);
	f->admit_generation = generation;
}

/* Adds the packet's marks to the flow. A score halves each idle second. */
static __noinline void suspect(struct flow_value *f, struct flow_key *key, __u64 now, __u32 marks)
{
	struct tuning *t = tuning();
	struct endpoint_key k;
	struct endpoint e;
	__u32 i, idle, rest = marks, score = f->score, second = SECOND(now);

	f->marks |= marks;
	if (!t)
		return;
	idle = second - f->score_s;
	score = idle > 31 ? 0 : score >> (idle & 31);
#pragma clang loop unroll(disable)
	for (i = 0; i < STRATA_WEIGHTS && rest; i++, rest >>= 1)
		score += t->weights[i] & -(rest & 1); /* no branch: one path to verify */
	f->score = score;
	f->score_s = second;
	if (!t->threshold || score < t->threshold)
		return;

	admit(f, FLOW_ADMIT_SCORE, second + t->flow_s);
	if (!t->endpoint_s)
		return;
	service(&k, f, key);
	e.until_s = second + t->endpoint_s;
	e.bytes_left = t->endpoint_bytes;
	e.syns_left = STRATA_SYNS;
	e.renewed_s = second;
	if (bpf_map_update_elem(&endpoints, &k, &e, BPF_NOEXIST) == 0) {
		count(counters(), C_ADMIT_ENDPOINTS, 1);
		return;
	}
	/* There already: a lapsed one begins anew; a live one keeps what is left of its budget
	 * and, while suspicion lasts, gets a little each second, or a fault that comes when
	 * healthy traffic has spent it would never be looked at. */
	struct endpoint *have = bpf_map_lookup_elem(&endpoints, &k);
	if (!have) {
		count(counters(), C_ADMIT_FAILS, 1);
		return;
	}
	if (have->until_s < second) {
		have->bytes_left = e.bytes_left;
		have->syns_left = e.syns_left;
		count(counters(), C_ADMIT_ENDPOINTS, 1);
	} else if (have->renewed_s != second) {
		have->renewed_s = second;
		if (have->bytes_left < STRATA_RENEW)
			have->bytes_left = STRATA_RENEW;
		if (have->syns_left < STRATA_RENEW_SYNS)
			have->syns_left = STRATA_RENEW_SYNS;
	}
	if (have->until_s < e.until_s)
		have->until_s = e.until_s;
}

static __always_inline void fill(struct payload_header *h, const struct packet *p, const struct flow_value *f)
{
	h->time_ns = p->now;
	h->key = p->key;
	h->seq = p->seq;
	h->ack = p->ack;
	h->payload_len = p->payload_len;
	h->offset = 0;
	h->segments = p->segments;
	h->dir = p->dir & 1;
	h->tcp_flags = p->tcp_flags;
	h->flags = p->egress ? PAYLOAD_EGRESS : 0;
	h->pad = 0;
	if (f->flags & FLOW_INITIATOR_HI)
		h->flags |= PAYLOAD_INITIATOR_HI;
	if (!(f->dir[p->dir & 1].sent_packets | f->dir[p->dir & 1].sent_controls))
		h->flags |= PAYLOAD_FIRST;
}

/* Gives the record of n payload bytes to user space. 0 when sent. */
static __always_inline int output(struct payload_header *h, __u64 n)
{
	__u64 wake = bpf_ringbuf_query(&payloads, BPF_RB_AVAIL_DATA) >= ring_half ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;

	if (bpf_ringbuf_output(&payloads, h, sizeof(*h) + n, wake)) {
		count(counters(), C_PAYLOAD_RING_FULL, 1);
		return -1;
	}
	count(counters(), C_PAYLOAD_RECORDS, 1);
	count(counters(), C_PAYLOAD_BYTES, n);
	return 0;
}

/* One record: n bytes, 1 to STRATA_CHUNK, at the given place of the payload. 0 when sent. */
static __noinline int send_chunk(struct __sk_buff *skb, struct packet *p, __u32 at, __u32 avail, __u32 flags)
{
	__u32 zero = 0;
	struct payload_header *h = bpf_map_lookup_elem(&scratch, &zero);
	__u64 n = avail - at;

	if (!h)
		return -1;
	if (n > STRATA_CHUNK)
		n = STRATA_CHUNK;
	if (n == 0)
		return -1;
	/* 1 to STRATA_CHUNK, in the very register that is passed on. By arithmetic: a
	 * verifier of Linux 6.1 learns no lower bound from a test against 0. */
	n--;
	asm volatile("%0 &= %1" : "+r"(n) : "i"(STRATA_CHUNK - 1));
	n++;
	if (bpf_skb_load_bytes(skb, p->off + at, h + 1, n)) {
		count(counters(), C_PAYLOAD_FAILS, 1);
		return -1;
	}
	h->seq = p->seq + at;
	h->offset = at;
	h->caplen = n;
	if (at + n < avail)
		flags |= PAYLOAD_MORE;
	else if (at + n < p->payload_len)
		flags |= PAYLOAD_CUT;
	h->flags = flags;
	return output(h, n);
}

/* Sends avail bytes of payload in records of STRATA_CHUNK; gives what was sent. */
static __noinline __u32 send(struct __sk_buff *skb, struct packet *p, struct flow_value *f, __u32 avail)
{
	__u32 zero = 0, i, flags;
	struct payload_header *h = bpf_map_lookup_elem(&scratch, &zero);

	if (!h)
		return 0;
	if (avail > STRATA_CHUNK * STRATA_CHUNKS)
		avail = STRATA_CHUNK * STRATA_CHUNKS;
	fill(h, p, f);
	if (p->marks >> MARK_HTTP_4XX)
		h->flags |= PAYLOAD_TELLTALE;
	flags = h->flags;
#pragma clang loop unroll(disable)
	for (i = 0; i < STRATA_CHUNKS; i++) {
		if (i * STRATA_CHUNK >= avail)
			return avail;
		if (send_chunk(skb, p, i * STRATA_CHUNK, avail, flags))
			return i * STRATA_CHUNK;
	}
	return avail;
}

/* Delivers the header of a SYN, FIN or RST. They frame the stream, so they come up when
 * the budget for payload is spent, too, but only so many of a flow. */
static __noinline void deliver_control(struct packet *p, struct flow_value *f, struct endpoint *e)
{
	struct flow_dir *d = &f->dir[p->dir & 1];
	__u32 zero = 0;
	struct payload_header *h = bpf_map_lookup_elem(&scratch, &zero);

	if (!h)
		return;
	/* Each SYN of a flood is a flow of its own: they have a budget at the endpoint. */
	if (d->sent_controls >= STRATA_CONTROLS || (e && p->tcp_flags & TCP_SYN && !e->syns_left)) {
		count(counters(), C_PAYLOAD_BUDGET, 1);
		return;
	}
	fill(h, p, f);
	h->caplen = 0;
	if (p->payload_len)
		h->flags |= PAYLOAD_CUT;
	if (output(h, 0))
		return;
	d->sent_controls++;
	if (e && p->tcp_flags & TCP_SYN) {
		__u32 syns = e->syns_left; /* read once: another CPU may take the last one */

		if (syns)
			e->syns_left = syns - 1;
	}
}

/* Delivers the payload of an admitted flow while its budget lasts. */
static __noinline void deliver(struct __sk_buff *skb, struct packet *p, struct flow_value *f)
{
	struct flow_dir *d = &f->dir[p->dir & 1];
	struct tuning *t = tuning();
	struct endpoint_key k;
	struct endpoint *e = 0;
	__u32 left, avail, telltale = p->marks >> MARK_HTTP_4XX;

	if (!t)
		return;
	if (!t->deep_all && SECOND(p->now) > f->admit_until_s) {
		f->flags &= ~ADMIT_REASONS;
		return;
	}
	avail = p->len > p->off ? p->len - p->off : 0;
	if (avail > p->payload_len)
		avail = p->payload_len;
	left = t->flow_bytes == 0xffffffff ? avail : t->flow_bytes > d->sent_bytes ? t->flow_bytes - d->sent_bytes : 0;
	if (d->sent_packets >= t->flow_packets && t->flow_packets < 0xffff)
		left = 0;
	if (!t->deep_all && (f->flags & ADMIT_REASONS) == (FLOW_ADMITTED | FLOW_ADMIT_ENDPOINT)) {
		service(&k, f, &p->key);
		e = bpf_map_lookup_elem(&endpoints, &k);
		if (e && e->bytes_left < left)
			left = e->bytes_left;
	}
	if (!p->payload_len) {
		deliver_control(p, f, e);
		return;
	}
	/* The packet that told the tale is delivered whatever was spent before. */
	if (telltale && left < STRATA_CHUNK)
		left = STRATA_CHUNK;
	if (!left) {
		if (p->tcp_flags & TCP_CONTROL) {
			deliver_control(p, f, e);
			return;
		}
		count(counters(), C_PAYLOAD_BUDGET, 1);
		return;
	}
	if (avail > left)
		avail = left;
	avail = send(skb, p, f, avail);
	if (!avail)
		return;
	d->sent_bytes += avail;
	bump16(&d->sent_packets);
	if (e)
		e->bytes_left -= avail < e->bytes_left ? avail : e->bytes_left;
}

#endif
