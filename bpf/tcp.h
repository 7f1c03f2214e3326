/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What one segment says of its connection. The definitions of retransmission,
 * out-of-order, duplicate ack, keep-alive and zero window are those of Wireshark's
 * "TCP Analysis" section of its user's guide, so far as a state without a list of
 * unacknowledged segments can follow them. */
#ifndef STRATA_TCP_H
#define STRATA_TCP_H

#include "packet.h"

#define SEQ_LT(a, b) ((__s32)((a) - (b)) < 0)
#define SEQ_LE(a, b) ((__s32)((a) - (b)) <= 0)

#define FAST_TICKS (20000000u >> 10)   /* a fast retransmission follows its duplicate acks within 20 ms */
#define REORDER_TICKS (3000000u >> 10) /* reordering without a known RTT: 3 ms */
#define STUCK 3
#define LARGE_BYTES 500

/* Ticks of 1.024 us. */
static __always_inline __u32 ticks_us(__u32 ticks)
{
	return ticks + (__u32)(((__u64)ticks * 393) >> 14);
}

/* A SYN with another sequence number than the last one begins a new connection. */
static __noinline void tcp_syn(struct flow_value *f, struct packet *p)
{
	__u32 flags = f->flags;

	if (flags & FLOW_SYN_SEEN && f->syn_seq == p->seq) {
		if (!(flags & FLOW_SYNACK_SEEN))
			p->marks |= 1u << MARK_SYN_RETRY;
		flags &= ~(FLOW_CLOSED | FLOW_REFUSED); /* some stacks try again after a refusal */
	} else if ((f->dir[0].state | f->dir[1].state) & DIR_SEQ) {
		flags &= ~(FLOW_ESTABLISHED | FLOW_CLOSED | FLOW_REFUSED | FLOW_RESET_MIDWAY |
			   FLOW_SYNACK_SEEN);
		flags |= FLOW_REUSED;
		f->dir[0].state = f->dir[1].state = 0;
		f->dir[0].rtt_tick = f->dir[1].rtt_tick = 0;
		f->dir[0].stuck = f->dir[1].stuck = 0;
		f->dir[0].stuck_large = f->dir[1].stuck_large = 0;
		f->dir[0].dup_run = f->dir[1].dup_run = 0;
		f->dir[0].sent_bytes = f->dir[1].sent_bytes = 0;
		f->dir[0].sent_packets = f->dir[1].sent_packets = 0;
		f->dir[0].sent_controls = f->dir[1].sent_controls = 0;
		f->syn_us = f->ack_us = 0;
		f->wait_since_ns = 0;
	}
	flags |= FLOW_SYN_SEEN | FLOW_INITIATOR_KNOWN;
	flags &= ~FLOW_INITIATOR_HI;
	if (p->dir & 1)
		flags |= FLOW_INITIATOR_HI;
	f->flags = flags;
	f->syn_seq = p->seq;
}

static __noinline void tcp_rst(struct flow_value *f, struct packet *p)
{
	__u32 from_initiator = (p->dir & 1) == !!(f->flags & FLOW_INITIATOR_HI);

	if (f->flags & FLOW_CLOSED)
		return;
	f->flags |= FLOW_CLOSED;
	if ((f->flags & (FLOW_SYN_SEEN | FLOW_SYNACK_SEEN)) == FLOW_SYN_SEEN) {
		if (!from_initiator) {
			f->flags |= FLOW_REFUSED;
			p->marks |= 1u << MARK_REFUSED;
		}
		return;
	}
	if (!((f->dir[0].state | f->dir[1].state) & DIR_FIN)) {
		f->flags |= FLOW_RESET_MIDWAY;
		p->marks |= 1u << MARK_RESET_MIDWAY;
	}
}

/* The segment brings nothing beyond next_seq: sorts out what it is. */
static __noinline void tcp_again(struct flow_value *f, struct packet *p)
{
	struct flow_dir *d = &f->dir[p->dir & 1], *r = &f->dir[(p->dir & 1) ^ 1];
	__u32 tick = TICK(p->now), len = p->payload_len, reorder = REORDER_TICKS;
	__u32 next = p->seq + len + !!(p->tcp_flags & (TCP_SYN | TCP_FIN));
	__u64 *c = counters();
	int fast, spurious;

	/* Real data after a zero-window probe or a keep-alive of one byte. */
	if (len > 1 && p->seq == d->next_seq - 1)
		return;
	p->new_data = 0;
	if (f->syn_us + f->ack_us)
		reorder = (f->syn_us + f->ack_us); /* us for ticks: 2 % short */
	fast = r->dup_run >= 2 && r->last_ack == p->seq && tick - r->ack_tick < FAST_TICKS;
	spurious = len && r->state & DIR_ACK && SEQ_LE(p->seq + len, r->last_ack);
	if (!fast && !spurious && tick - d->next_tick < reorder && next != d->next_seq) {
		d->out_of_order++;
		count(c, C_TCP_OUT_OF_ORDER, 1);
		return;
	}
	d->retransmits++;
	count(c, C_TCP_RETRANSMITS, 1);
	p->marks |= 1u << MARK_RETRANSMIT;
	d->rtt_tick = 0; /* Karn: an ack of retransmitted data times nothing */
	/* Spurious ones lack nothing at the peer. */
	if (spurious)
		return;
	bump16(&d->stuck);
	if (d->stuck > d->stuck_max)
		d->stuck_max = d->stuck;
	if (d->stuck >= STUCK)
		p->marks |= 1u << MARK_STUCK;
	if (len >= LARGE_BYTES && len / (p->segments | !p->segments) >= d->max_payload - d->max_payload / 10) {
		d->retransmits_large++;
		bump16(&d->stuck_large);
		if (d->stuck_large > d->stuck_large_max)
			d->stuck_large_max = d->stuck_large;
		if (d->stuck_large >= STUCK)
			p->marks |= 1u << MARK_LARGE_LOST;
	}
}

/* An ack has come for the data that is being timed. */
static __noinline void tcp_rtt(struct flow_value *f, struct flow_dir *timed, struct packet *p)
{
	__u32 us = ticks_us(TICK(p->now) - timed->rtt_tick);

	timed->rtt_tick = 0;
	if (p->tcp_flags & TCP_SYN) {
		f->syn_us = us;
		return;
	}
	if (!(f->flags & FLOW_ESTABLISHED) && f->flags & FLOW_SYNACK_SEEN) {
		f->ack_us = us;
		return;
	}
	if (!timed->srtt_us) {
		timed->srtt_us = us;
		return;
	}
	if (us > 4 * timed->srtt_us && us > 200000)
		p->marks |= 1u << MARK_RTT_INFLATION;
	timed->srtt_us = timed->srtt_us - (timed->srtt_us >> 3) + (us >> 3);
}

/* SYN, FIN and RST: seldom enough to be out of the way of data and acks. */
static __noinline void tcp_control(struct flow_value *f, struct packet *p)
{
	struct flow_dir *d = &f->dir[p->dir & 1];
	__u64 *c = counters();

	if (p->tcp_flags & TCP_SYN) {
		bump16(&d->syn);
		count(c, C_TCP_SYN, 1);
		if (!(p->tcp_flags & TCP_ACK)) {
			tcp_syn(f, p);
		} else if (!(f->flags & FLOW_SYNACK_SEEN)) {
			f->flags |= FLOW_SYNACK_SEEN | FLOW_INITIATOR_KNOWN;
			f->flags &= ~FLOW_INITIATOR_HI;
			if (!(p->dir & 1))
				f->flags |= FLOW_INITIATOR_HI;
		}
	}
	if (p->tcp_flags & TCP_FIN) {
		bump16(&d->fin);
		count(c, C_TCP_FIN, 1);
		d->state |= DIR_FIN;
		if (f->dir[(p->dir & 1) ^ 1].state & DIR_FIN)
			f->flags |= FLOW_CLOSED;
	}
	if (p->tcp_flags & TCP_RST) {
		bump16(&d->rst);
		count(c, C_TCP_RST, 1);
		tcp_rst(f, p);
	}
}

static __noinline void tcp_zero_window(struct flow_dir *d, struct packet *p)
{
	d->zero_windows++;
	count(counters(), C_TCP_ZERO_WINDOW, 1);
	p->marks |= 1u << MARK_ZERO_WINDOW;
	if (!d->zero_since_ns)
		d->zero_since_ns = p->now;
}

static __always_inline void tcp_update(struct flow_value *f, struct packet *p, __u64 *c)
{
	struct flow_dir *d = &f->dir[p->dir & 1], *r = &f->dir[(p->dir & 1) ^ 1];
	__u32 tick = TICK(p->now), len = p->payload_len, control = p->tcp_flags & TCP_CONTROL;
	__u32 next = p->seq + len + !!(p->tcp_flags & (TCP_SYN | TCP_FIN));
	__u8 state;

	if (control)
		tcp_control(f, p);
	state = d->state & ~(DIR_KEEPALIVE | DIR_PROBE);

	if (!control && !p->window)
		tcp_zero_window(d, p);
	else if (!control)
		d->zero_since_ns = 0;

	if (state & DIR_SEQ) {
		if (!control && len == 1 && p->seq == d->next_seq && r->state & DIR_ACK && !r->window) {
			state |= DIR_PROBE;
			p->new_data = 0;
		} else if (!control && len <= 1 && p->seq == d->next_seq - 1) {
			state |= DIR_KEEPALIVE;
			p->new_data = 0;
			bump16(&d->keepalives);
			count(c, C_TCP_KEEPALIVES, 1);
		} else if (SEQ_LT(d->next_seq, p->seq) && !(p->tcp_flags & TCP_RST)) {
			d->gaps++;
			count(c, C_TCP_GAPS, 1);
		} else if (SEQ_LT(p->seq, d->next_seq) && (len || p->tcp_flags & (TCP_SYN | TCP_FIN))) {
			tcp_again(f, p);
		} else if (!len && !control && p->seq == d->next_seq && p->window && state & DIR_ACK &&
			   p->window == d->window && p->ack == d->last_ack &&
			   !(r->state & (DIR_KEEPALIVE | DIR_PROBE))) {
			d->dup_acks++;
			bump16(&d->dup_run);
			count(c, C_TCP_DUP_ACKS, 1);
		}
	}
	if (p->tcp_flags & TCP_ACK) {
		if (p->ack != d->last_ack)
			d->dup_run = 0;
		if (!(state & DIR_ACK) || SEQ_LT(d->last_ack, p->ack)) {
			r->stuck = 0;
			r->stuck_large = 0;
		}
		if (r->rtt_tick && SEQ_LE(r->rtt_seq, p->ack))
			tcp_rtt(f, r, p);
		d->last_ack = p->ack;
		d->ack_tick = tick;
		d->window = p->window;
		state |= DIR_ACK;
		if (!control && (f->flags & (FLOW_ESTABLISHED | FLOW_HALF_OPEN)) == 0 && r->packets)
			f->flags |= FLOW_ESTABLISHED;
	}
	if (!(state & DIR_SEQ) || (SEQ_LT(d->next_seq, next) && !(state & DIR_PROBE))) {
		d->next_seq = next;
		d->next_tick = tick;
		if (next != p->seq && !d->rtt_tick && !(p->tcp_flags & TCP_FIN)) {
			d->rtt_seq = next;
			d->rtt_tick = tick | 1;
		}
	}
	d->state = state | DIR_SEQ;
}

#endif
