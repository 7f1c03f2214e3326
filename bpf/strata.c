//go:build ignore

/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The tc classifiers: count every packet of a port into flows, neighbours and totals,
 * mark what is suspicious, deliver the payload of what is admitted. They never alter a
 * packet and never decide its fate: TC_ACT_UNSPEC, which is also TCX_NEXT.
 *
 * UAPI types only, and no helper newer than Linux 5.8.
 */
#include <linux/pkt_cls.h>
#include "maps.h"
#include "packet.h"
#include "tcp.h"
#include "admit.h"
#include "telltale.h"
#include "neighbour.h"
#include "icmp.h"
#include "flow.h"
#include "parse.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tc/ingress")
int strata_ingress(struct __sk_buff *skb)
{
	classify(skb, 0, 1);
	return TC_ACT_UNSPEC;
}

SEC("tc/egress")
int strata_egress(struct __sk_buff *skb)
{
	classify(skb, 1, 1);
	return TC_ACT_UNSPEC;
}

/* Ports without Ethernet: TUN, PPP, raw-IP modems. */
SEC("tc/ingress_ip")
int strata_ingress_ip(struct __sk_buff *skb)
{
	classify(skb, 0, 0);
	return TC_ACT_UNSPEC;
}

SEC("tc/egress_ip")
int strata_egress_ip(struct __sk_buff *skb)
{
	classify(skb, 1, 0);
	return TC_ACT_UNSPEC;
}
