/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Maps and load-time constants. The maps are declared without BTF, so that the object
 * carries none and loads on a kernel that knows none. Sizes here are the defaults;
 * Load may change them. */
#ifndef STRATA_MAPS_H
#define STRATA_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "strata.h"

struct map_def {
	__u32 type;
	__u32 key_size;
	__u32 value_size;
	__u32 max_entries;
	__u32 map_flags;
};

#define MAP(name, kind, ksize, vsize, entries)                        \
	struct map_def SEC("maps") name = {                           \
		.type = kind,                                         \
		.key_size = ksize,                                    \
		.value_size = vsize,                                  \
		.max_entries = entries,                               \
	}

/* A packet as parsed. */
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
	__u16 sport;
	__u16 dport;
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
	__u8 no_l4; /* the transport header is not all there */
	__u8 pad;
	__u8 mac[6]; /* of the sender; 2-aligned */
};

/* What a CPU has of its own: the totals, and the packet that it is parsing. The packet
 * is here and not on the stack because of what comes from a map the verifier keeps no
 * values, so it does not walk every combination of marks and lengths apart. Nothing else
 * runs on the CPU in between: both hooks have bottom halves off. */
struct cpu {
	__u64 totals[STRATA_COUNTERS];
	struct packet packet;
	__u8 pad[512 - sizeof(struct packet)];
};

/* LRU maps below some thousand entries evict in batches of up to 128, so flows never
 * get fewer than 16,384. Unestablished SYNs have a table of their own, so that a flood
 * of them does not wash out live flows. */
MAP(flows, BPF_MAP_TYPE_LRU_HASH, sizeof(struct flow_key), sizeof(struct flow_value), 16384);
MAP(half_open, BPF_MAP_TYPE_LRU_HASH, sizeof(struct flow_key), sizeof(struct flow_value), 2048);
MAP(neighbours, BPF_MAP_TYPE_LRU_HASH, sizeof(struct neighbour_key), sizeof(struct neighbour), 1024);
MAP(endpoints, BPF_MAP_TYPE_LRU_HASH, sizeof(struct endpoint_key), sizeof(struct endpoint), 512);
MAP(admissions, BPF_MAP_TYPE_LRU_HASH, sizeof(struct flow_key), sizeof(struct flow_admission), 512);
/* Ports by ifindex; the hash takes those whose index is beyond the array. */
#define PORTS 256
MAP(ports, BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(struct interface_counters), PORTS);
MAP(more_ports, BPF_MAP_TYPE_PERCPU_HASH, 4, sizeof(struct interface_counters), 64);
MAP(totals, BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(struct cpu), 1);
MAP(tunings, BPF_MAP_TYPE_ARRAY, 4, sizeof(struct tuning), 1);
/* An all-zero flow that new entries start from: too large for the stack. */
MAP(blank, BPF_MAP_TYPE_ARRAY, 4, sizeof(struct flow_value), 1);
MAP(scratch, BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(struct payload_header) + STRATA_CHUNK, 1);
MAP(payloads, BPF_MAP_TYPE_RINGBUF, 0, 0, 1 << 20);

/* Set before loading; the verifier then drops the other half of each choice. */
const volatile __u32 replay = 0;     /* times, lengths from the test run's context */
const volatile __u32 ring_half = 1 << 19; /* fill from which the reader is woken */

static __always_inline __u64 *counters(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&totals, &zero);
}

static __always_inline void count(__u64 *c, __u32 what, __u64 n)
{
	/* The array is per CPU: plain adds lose nothing. */
	if (c)
		c[what] += n;
}

static __always_inline struct tuning *tuning(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&tunings, &zero);
}

#endif
