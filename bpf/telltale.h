/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Faults of L5 to L7 that show in the first bytes of a payload, each by a test of
 * constant time. They need not be certain: a mark admits, the dissector decides. */
#ifndef STRATA_TELLTALE_H
#define STRATA_TELLTALE_H

#include "packet.h"

#define WORD(a, b, c, d) ((__u32)(a) | (__u32)(b) << 8 | (__u32)(c) << 16 | (__u32)(d) << 24)
#define BIT(n) (1u << (n))

/* DNS, RFC 1035 section 4.1.1: QR set and an RCODE. h is the header. */
static __always_inline __u32 dns(const __u8 *h)
{
	return (h[2] & 0x80) && (h[3] & 0x0f) ? BIT(MARK_DNS_RCODE) : 0;
}

/* CONNACK, MQTT 3.1.1 and 5.0 section 3.2: flags 0 or 1, then a code: 1 to 5, or 0x80
 * and more. The length must be that of the segment. */
static __always_inline __u32 connack(const __u8 *b, __u32 len)
{
	if (b[1] & 0x80 || b[2] > 1 || b[1] + 2u != len)
		return 0;
	if (b[1] == 2 ? b[3] != 0 && (b[3] <= 5 || b[3] & 0x80) : b[3] & 0x80)
		return BIT(MARK_MQTT_REFUSED);
	return 0;
}

/* Modbus TCP exception: MBAP with protocol 0 and length 3, function with its top bit. */
static __always_inline __u32 modbus(const __u8 *b, __u32 len)
{
	return len == 9 && b[2] == 0 && b[3] == 0 && b[4] == 0 && b[5] == 3 && b[7] & 0x80 &&
			       b[8] >= 1 && b[8] <= 11 ?
		       BIT(MARK_MODBUS_EXCEPTION) :
		       0;
}

#define TLS_ALERT_MOST 30

/* TLS 1.3 encrypts its alerts. But a client answers the server's first flight with a
 * Finished, which makes a record of 53 bytes and more (RFC 8446 section 4.4.4): a record
 * of the length of an alert in its place, alone or behind the ChangeCipherSpec of the
 * compatibility mode (appendix D.4), gives the handshake up. The length is 2 of alert, 1
 * of type, and 16 or 8 of tag. Asked of the initiator's first bytes after an answer. */
static __noinline __u32 hidden_alert(struct __sk_buff *skb, struct packet *p)
{
	__u8 b[12] ALIGNED = {};
	__u32 len = p->payload_len;

	if (len < 16 || load(skb, p, p->off, b, 12))
		return 0;
	if (b[0] == 0x17)
		return b[1] == 3 && b[3] == 0 && (b[4] == 19 || b[4] == 11) && len == 5u + b[4] ?
			       BIT(MARK_TLS_ALERT) :
			       0;
	if (WORD(b[0], b[1], b[3], b[4]) != WORD(0x14, 3, 0, 1) || WORD(b[5], b[6], b[7], b[9]) != WORD(1, 0x17, 3, 0))
		return 0;
	return (b[10] == 19 || b[10] == 11) && len == 11u + b[10] ? BIT(MARK_TLS_ALERT) : 0;
}

static __noinline __u32 telltale(struct __sk_buff *skb, struct packet *p)
{
	__u8 b[12] ALIGNED = {};
	__u32 word, len = p->payload_len;
	__u16 sport = p->sport;

	if (len >= 12) {
		if (load(skb, p, p->off, b, 12))
			return 0;
	} else if (len >= 9) {
		if (load(skb, p, p->off, b, 9))
			return 0;
	} else if (len >= 7) {
		if (load(skb, p, p->off, b, 7))
			return 0;
	} else if (len < 4 || load(skb, p, p->off, b, 4)) {
		return 0;
	}
	if (p->key.proto == PROTO_UDP && (sport == 53 || sport == 5353 || sport == 5355))
		return len >= 12 ? dns(b) : 0;

	word = WORD(b[0], b[1], b[2], b[3]);
	/* "SIP/2.0 4": RFC 3261 section 7.2. 401 and 407 are challenges, not refusals, but
	 * a wrong password shows as nothing else. */
	if (word == WORD('S', 'I', 'P', '/'))
		return b[8] >= '4' && b[8] <= '6' ? BIT(MARK_SIP_ERROR) : 0;
	if (p->key.proto != PROTO_TCP)
		return 0;
	/* "HTTP/1.1 5": RFC 9112 section 4. */
	if (word == WORD('H', 'T', 'T', 'P')) {
		if (b[9] == '4')
			return BIT(MARK_HTTP_4XX);
		return b[9] == '5' ? BIT(MARK_HTTP_5XX) : 0;
	}
	/* Alert in the clear and fatal: RFC 8446 section 6. Length 2, level 2. */
	if (b[0] == 0x15 && b[1] == 3 && b[3] == 0)
		return len >= 7 && b[4] == 2 && b[5] == 2 ? BIT(MARK_TLS_ALERT) : 0;
	if (b[0] == 0x20 && connack(b, len))
		return BIT(MARK_MQTT_REFUSED);
	/* RST_STREAM or GOAWAY with an error code: RFC 9113 sections 6.4 and 6.8. */
	if (b[0] == 0 && b[1] == 0 && b[4] == 0 && b[3] == 3 && b[2] == 4 && len >= 13)
		return BIT(MARK_HTTP2_ERROR);
	if (sport == 53 && len >= 14) {
		if (load(skb, p, p->off + 2, b, 12))
			return 0;
		return dns(b);
	}
	return modbus(b, len);
}

/* Whether telltale is worth a call: the first byte, a DNS port, or Modbus' length. */
static __always_inline int plausible(struct __sk_buff *skb, const struct packet *p)
{
	__u16 sport = p->sport;
	__u8 b[4] ALIGNED;

	if (sport == 53 || sport == 5353 || sport == 5355 || p->payload_len == 9)
		return 1;
	if (load(skb, p, p->off, b, 4))
		return 0;
	return b[0] == 'H' || b[0] == 'S' || b[0] == 0x15 || b[0] == 0x20 || b[0] == 0;
}

#endif
