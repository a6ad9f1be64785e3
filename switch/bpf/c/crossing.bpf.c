// SPDX-License-Identifier: Apache-2.0
/*
 * Crossings: what comes in by one interface leaves by another, by way of that one's queue. They lead from a limited pod's veth to
 * its shaper and back (src/crossings.rs); nothing passes to the host's stack.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

/* Two for each endpoint that the flow cache has room for (HEDDLE_FLOW_CACHE_PORTS). */
#define HEDDLE_CROSSINGS 16384

/* Index of the interface to leave by, by index of the one that packets come in by. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HEDDLE_CROSSINGS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u32);
} crossings SEC(".maps");

SEC("tcx/ingress")
int cross(struct __sk_buff *skb)
{
	__u32 from = skb->ifindex;
	__u32 *to = bpf_map_lookup_elem(&crossings, &from);

	return to ? bpf_redirect(*to, 0) : TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Apache-2.0";
