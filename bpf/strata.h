/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The wire between the kernel programs and user space. Every struct has its twin in
 * types.go; layout_test.go holds the two to the same sizes and offsets.
 *
 * Fixed widths, explicit padding, host byte order unless a name ends in _be. Times are
 * nanoseconds on CLOCK_BOOTTIME, or of the capture in a replay; names in _us are
 * microseconds, names in _tick are the low 32 bits of nanoseconds >> 10.
 */
#ifndef STRATA_H
#define STRATA_H

#include <linux/types.h>

#define STRATA_CHUNK 4096      /* payload bytes in one record */
#define STRATA_CHUNKS 16       /* records for one packet: 64 KiB after GRO */
#define STRATA_CONTROLS 8      /* records without payload, a direction of a flow */
#define STRATA_SYNS 4096       /* SYNs without payload, an admission of an endpoint */
#define STRATA_WEIGHTS 32      /* one a mark bit */
#define STRATA_ICMP_CLASSES 6
#define STRATA_COUNTERS 64

/* A conversation seen on one port. lo and hi are its two ends in an order that depends
 * only on (address, port); the order of addresses is that of their bytes read as two
 * little-endian words, which is arbitrary and fixed. */
struct flow_key {
	__u8 lo[16]; /* IPv4 as ::ffff:a.b.c.d */
	__u8 hi[16];
	__u32 ifindex;
	__u16 lo_port; /* ICMP: echo identifier, else 0 */
	__u16 hi_port;
	__u16 vlan;       /* outer VLAN identifier, 0 without a tag */
	__u16 inner_vlan; /* second tag of QinQ */
	__u8 proto;       /* IP protocol number */
	__u8 pad[3];
};

/* What one end has sent. */
struct flow_dir {
	__u64 bytes;         /* frame lengths, without FCS */
	__u64 zero_since_ns; /* 0 while the window is open */
	__u32 packets;       /* frames: a GRO run counts its segments */
	__u32 payload_packets;
	__u32 next_seq; /* highest sequence number seen + length */
	__u32 last_ack;
	__u32 retransmits;
	__u32 retransmits_large;
	__u32 out_of_order;
	__u32 gaps;
	__u32 dup_acks;
	__u32 zero_windows;
	__u32 srtt_us; /* of this end's data until the peer's ack, 7/8 smoothed */
	__u32 rtt_seq;
	__u32 rtt_tick; /* 0: nothing is being timed */
	__u32 next_tick;
	__u32 ack_tick;
	__u32 sent_bytes; /* payload delivered to user space since admission */
	__u16 sent_packets;
	__u16 stuck; /* retransmits since the peer's ack last advanced */
	__u16 stuck_max;
	__u16 stuck_large;
	__u16 stuck_large_max;
	__u16 syn;
	__u16 fin;
	__u16 rst;
	__u16 keepalives;
	__u16 max_payload; /* largest of one segment */
	__u16 window;      /* as last sent, unscaled */
	__u16 dup_run;     /* duplicate acks in a row */
	__u8 ttl_min;
	__u8 ttl_max;
	__u8 state; /* DIR_* */
	__u8 sent_controls; /* records without payload delivered since admission */
	__u8 mac[6]; /* last seen source address */
	__u8 pad2[6];
};

struct flow_value {
	__u64 first_ns;
	__u64 last_ns;
	__u64 wait_since_ns; /* a request of the initiator is unanswered since; 0 if none */
	__u32 flags;         /* FLOW_* */
	__u32 marks;         /* MARK_* bits */
	__u32 syn_us;        /* SYN to SYN/ACK */
	__u32 ack_us;        /* SYN/ACK to the ACK that completes the handshake */
	__u32 responses;
	__u32 response_sum_us; /* wraps: take differences */
	__u32 response_last_us;
	__u32 response_max_us;
	__u32 score;
	__u32 score_s; /* nanoseconds >> 30 of the last addition */
	__u32 syn_seq; /* of the latest SYN without ACK */
	__u32 admit_until_s; /* nanoseconds >> 30 */
	__u16 icmp[STRATA_ICMP_CLASSES];
	__u16 mtu; /* next-hop MTU of the latest fragmentation-needed or too-big */
	__u16 bad_checksums;
	__u16 fragments;
	__u16 admit_generation;
	__u32 pad;
	struct flow_dir dir[2]; /* [0] sent by lo, [1] sent by hi */
};

struct neighbour_key {
	__u32 ifindex;
	__u16 vlan;
	__u16 pad;
	__u8 addr[16]; /* IPv4 as ::ffff:a.b.c.d */
};

struct neighbour {
	__u64 first_unanswered_ns; /* 0: nothing is unanswered */
	__u64 last_request_ns;
	__u64 claimed_ns; /* last claim by mac */
	__u64 other_ns;   /* last claim by other */
	__u64 conflict_ns;
	__u32 requests;
	__u32 unanswered; /* requests since the last answer */
	__u32 replies;
	__u32 gratuitous;
	__u32 conflicts;
	__u32 flips; /* claims by another than the claimant before */
	__u32 mac_changes;
	__u8 mac[6];
	__u8 other[6];
};

struct interface_dir {
	__u64 packets;
	__u64 bytes;
	__u64 broadcast;
	__u64 multicast;
};

struct interface_counters {
	struct interface_dir dir[2]; /* [0] ingress, [1] egress */
};

struct endpoint_key {
	__u8 addr[16];
	__u16 port;
	__u8 proto;
	__u8 pad;
};

struct endpoint {
	__u32 until_s;    /* nanoseconds >> 30 */
	__u32 bytes_left; /* payload that may still be delivered */
	__u32 syns_left;  /* the same in SYNs without payload */
	__u32 renewed_s;  /* last second in which suspicion renewed a spent budget */
};

struct flow_admission {
	__u32 until_s; /* nanoseconds >> 30 */
	__u16 generation;
	__u16 pad;
};

/* Tunable while running; one entry of an array map. */
struct tuning {
	__u32 threshold;    /* score from which a flow and its endpoint are admitted; 0: never */
	__u32 deep_all;     /* 1: every flow is admitted */
	__u32 sample_every; /* admit one in N new flows; 0: none */
	__u32 flow_packets; /* delivered a direction after admission; 0xffff and more: no limit */
	__u32 flow_bytes;   /* the same in bytes; 0xffffffff: no limit */
	__u32 flow_s;       /* seconds an admission by score lasts */
	__u32 endpoint_s;   /* seconds an endpoint stays admitted by score; 0: flows only */
	__u32 endpoint_bytes;
	__u32 generation; /* raised by user space after each admission of its own */
	__u32 checksum;   /* 1: verify IPv4 header checksums on ingress */
	__u32 pad[2];
	__u32 weights[STRATA_WEIGHTS];
};

/* Precedes the payload in the ring buffer. A SYN, FIN or RST without payload comes as a
 * header alone: caplen and payload_len are 0. One whose payload is beyond the budget
 * comes with caplen 0 and PAYLOAD_CUT. */
struct payload_header {
	__u64 time_ns;
	struct flow_key key;
	__u32 seq; /* TCP: of the first byte of this record; of the SYN itself in one */
	__u32 ack;
	__u32 payload_len; /* of the whole packet */
	__u32 offset;      /* of this record within the packet's payload */
	__u16 caplen;      /* bytes that follow */
	__u16 segments;
	__u8 dir; /* 0: sent by lo */
	__u8 tcp_flags;
	__u8 flags; /* PAYLOAD_* */
	__u8 pad;
};

enum flow_flag {
	FLOW_INITIATOR_HI = 1 << 0,    /* hi sent the first packet, or the SYN */
	FLOW_INITIATOR_KNOWN = 1 << 1, /* by SYN or SYN/ACK, not by the first packet alone */
	FLOW_FIRST_EGRESS = 1 << 2,
	FLOW_HALF_OPEN = 1 << 3,
	FLOW_ESTABLISHED = 1 << 4,
	FLOW_CLOSED = 1 << 5, /* FIN of both ends, or RST */
	FLOW_REFUSED = 1 << 6,
	FLOW_RESET_MIDWAY = 1 << 7,
	FLOW_SYN_SEEN = 1 << 8,
	FLOW_SYNACK_SEEN = 1 << 9,
	FLOW_ADMITTED = 1 << 10,
	FLOW_ADMIT_SCORE = 1 << 11,
	FLOW_ADMIT_ENDPOINT = 1 << 12,
	FLOW_ADMIT_USER = 1 << 13,
	FLOW_ADMIT_SAMPLE = 1 << 14,
	FLOW_REUSED = 1 << 15, /* another connection has begun on the same ports */
	FLOW_IPV6 = 1 << 16,
};

enum dir_state {
	DIR_SEQ = 1 << 0, /* next_seq is valid */
	DIR_ACK = 1 << 1, /* last_ack and window are valid */
	DIR_KEEPALIVE = 1 << 2, /* the latest segment was a keep-alive */
	DIR_PROBE = 1 << 3,     /* the latest segment was a zero-window probe */
	DIR_FIN = 1 << 4,
};

enum mark {
	MARK_SYN_RETRY,
	MARK_REFUSED,
	MARK_RESET_MIDWAY,
	MARK_RETRANSMIT,
	MARK_STUCK,
	MARK_ZERO_WINDOW,
	MARK_ICMP_ERROR,
	MARK_LARGE_LOST,
	MARK_BAD_CHECKSUM,
	MARK_TTL_CHANGE,
	MARK_FRAGMENT,
	MARK_RTT_INFLATION,
	MARK_HTTP_4XX = 16,
	MARK_HTTP_5XX,
	MARK_TLS_ALERT,
	MARK_DNS_RCODE,
	MARK_MQTT_REFUSED,
	MARK_SIP_ERROR,
	MARK_MODBUS_EXCEPTION,
	MARK_HTTP2_ERROR,
};

enum icmp_class {
	ICMP_CLASS_UNREACHABLE, /* network, host or no route */
	ICMP_CLASS_PORT,
	ICMP_CLASS_FRAG_NEEDED, /* or packet too big */
	ICMP_CLASS_TTL,
	ICMP_CLASS_PROHIBITED,
	ICMP_CLASS_OTHER,
};

enum payload_flag {
	PAYLOAD_MORE = 1 << 0, /* another record of this packet follows */
	PAYLOAD_CUT = 1 << 1,  /* the budget or the capture ends here, the packet does not */
	PAYLOAD_TELLTALE = 1 << 2,
	PAYLOAD_EGRESS = 1 << 3,
	PAYLOAD_INITIATOR_HI = 1 << 4,
	PAYLOAD_FIRST = 1 << 5, /* the first delivered in this direction since admission */
};

/* Per-CPU totals, an array of __u64. */
enum counter {
	C_PACKETS,
	C_BYTES,
	C_IPV4,
	C_IPV6,
	C_ARP,
	C_LLC, /* 802.3 frames: spanning tree and the like */
	C_LLDP,
	C_MPLS,
	C_OTHER_L3,
	C_TCP,
	C_UDP,
	C_ICMP,
	C_OTHER_L4,
	C_FRAGMENTS,
	C_VLAN,
	C_BROADCAST,
	C_MULTICAST,
	C_BAD_L2,
	C_BAD_L3,
	C_BAD_L4,
	C_BAD_CHECKSUM,
	C_TCP_SYN,
	C_TCP_FIN,
	C_TCP_RST,
	C_TCP_RETRANSMITS,
	C_TCP_OUT_OF_ORDER,
	C_TCP_GAPS,
	C_TCP_DUP_ACKS,
	C_TCP_ZERO_WINDOW,
	C_TCP_KEEPALIVES,
	C_ICMP_UNREACHABLE, /* the six classes in the order of enum icmp_class */
	C_ICMP_PORT,
	C_ICMP_FRAG_NEEDED,
	C_ICMP_TTL,
	C_ICMP_PROHIBITED,
	C_ICMP_OTHER,
	C_ICMP_UNMATCHED, /* the inner flow is not known */
	C_NEIGHBOUR_REQUESTS,
	C_NEIGHBOUR_REPLIES,
	C_NEIGHBOUR_CONFLICTS,
	C_FLOW_CREATES,
	C_FLOW_FAILS,
	C_HALF_CREATES,
	C_HALF_MOVES, /* half-open entries that became flows */
	C_HALF_FAILS,
	C_NEIGHBOUR_FAILS,
	C_INTERFACE_FAILS,
	C_ADMIT_FLOWS,
	C_ADMIT_ENDPOINTS,
	C_ADMIT_FAILS,
	C_PAYLOAD_RECORDS,
	C_PAYLOAD_BYTES,
	C_PAYLOAD_RING_FULL,
	C_PAYLOAD_BUDGET, /* packets of admitted flows beyond their budget */
	C_PAYLOAD_FAILS,
	C_MAX,
};

#endif
