//go:build ignore

/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Names every wire struct once, so that their layout is in this object's BTF for
 * layout_test.go. Never loaded. */
#include "strata.h"

struct flow_key wire_flow_key;
struct flow_value wire_flow_value;
struct neighbour_key wire_neighbour_key;
struct neighbour wire_neighbour;
struct interface_counters wire_interface_counters;
struct endpoint_key wire_endpoint_key;
struct endpoint wire_endpoint;
struct flow_admission wire_flow_admission;
struct tuning wire_tuning;
struct payload_header wire_payload_header;
enum flow_flag wire_flow_flag;
enum mark wire_mark;
enum icmp_class wire_icmp_class;
enum payload_flag wire_payload_flag;
enum counter wire_counter;
