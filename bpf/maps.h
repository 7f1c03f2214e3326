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
MAP(totals, BPF_MAP_TYPE_PERCPU_ARRAY, 4, STRATA_COUNTERS * 8, 1);
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
	/* Plain adds: the array is per CPU, and old arm64 JITs reject fetch-add. */
	if (c)
		c[what] += n;
}

static __always_inline struct tuning *tuning(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&tunings, &zero);
}

#endif
