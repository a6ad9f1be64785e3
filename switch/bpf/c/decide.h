/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a packet goes as its flow says, and what its flow says. */
#ifndef HEDDLE_DECIDE_H
#define HEDDLE_DECIDE_H

#include "maps.h"
#include "parse.h"

#define barrier() asm volatile("" ::: "memory")

/* What is to be done with a packet. */
struct decision {
	struct hop *to;
	struct hop_state state; /* of `to` */
	__u8 flags;
	__be16 rewrite_port;
	__be32 rewrite_address[4];
	__u32 fence_tag; /* fence and sequence, if the outcome is PENDING */
};

static __always_inline struct hop_state read_state(const struct hop *hop)
{
	union {
		__u64 word;
		struct hop_state state;
	} whole = { .word = *(const volatile __u64 *)&hop->state };

	return whole.state;
}

/* The hop, if it is still what it was when the flow was judged. */
static __always_inline struct hop *find_hop(__u32 number, __u32 generation, struct hop_state *state)
{
	struct hop *hop = bpf_map_lookup_elem(&hops, &number);

	if (!hop)
		return NULL;
	*state = read_state(hop);
	if (state->kind == HOP_NONE || state->generation != generation)
		return NULL;
	return hop;
}

static __always_inline int address_equals(const __be32 *one, const __be32 *other)
{
	return !((one[0] ^ other[0]) | (one[1] ^ other[1]) | (one[2] ^ other[2]) | (one[3] ^ other[3]));
}

/* Holds a packet of a pending flow back from overtaking those before it, which went up to the worker. Each that goes up is
 * numbered by `up` and comes back down by the same queues in the same order, so the newest tells about all. One that is
 * lost leaves `count` short until the next comes back. Nothing is known before the first came back: untagged packets
 * from before the flow was there may be under way. What is counted as back is delivered a moment later; in that moment
 * another processor may deliver the next, which is the one way left to be overtaken. */
static __always_inline enum outcome pass_fence(struct flow *flow, __u32 number, __u32 segments, __u32 *tag)
{
	struct fence *fence = bpf_map_lookup_elem(&fences, &number);
	__u32 up;

	if (!fence)
		return OUTCOME_MISS;
	up = *(volatile __u32 *)&fence->up;
	if (!up || (__u16)up != (__u16)(fence->seq + fence->count)) {
		if (bpf_ktime_get_coarse_ns() <= flow->pending_until) {
			up = __sync_fetch_and_add(&fence->up, segments);
			*tag = number << 16 | (__u16)up;
			return OUTCOME_PENDING;
		}
		if (up)
			count(OUTCOME_FORCED);
	}
	*(volatile __u8 *)&flow->state = FLOW_OPEN;
	return OUTCOME_HIT;
}

/* `remote` is the VTEP the packet came from, NULL if it came from an endpoint. */
static __always_inline enum outcome decide(struct __sk_buff *skb, const struct packet *packet, struct flow *flow,
					   const struct address *remote, struct decision *decision)
{
	__u32 from_number = flow->from, from_generation = flow->from_generation;
	__u32 to_number = flow->to, to_generation = flow->to_generation;
	__u32 fence = flow->fence, size = packet->length;
	__u8 state = *(volatile __u8 *)&flow->state;
	struct hop_state from_state;
	struct hop *from;

	decision->flags = flow->flags;
	decision->rewrite_port = flow->rewrite_port;
	__builtin_memcpy(decision->rewrite_address, flow->rewrite_address, sizeof(flow->rewrite_address));
	/* The kernel gives the memory of a deleted flow to a new one at once, whoever still reads it. New values are written
	 * from the first word on: if that is still ours, all that was read before is. */
	barrier();
	if (*(volatile __be16 *)&flow->source_port != packet->key.source_port ||
	    *(volatile __be16 *)&flow->destination_port != packet->key.destination_port ||
	    *(volatile __be32 *)&flow->destination != packet->key.destination[3])
		return OUTCOME_MISS;

	from = find_hop(from_number, from_generation, &from_state);
	decision->to = find_hop(to_number, to_generation, &decision->state);
	if (!from || !decision->to)
		return OUTCOME_REVOKED;
	if (remote) {
		if (from_state.kind != HOP_VTEP || !address_equals(from->outer, remote->words))
			return OUTCOME_MISS;
	} else if (from_state.kind == HOP_ENDPOINT) {
		void *end = (void *)(long)skb->data_end;
		struct ethhdr *eth = (void *)(long)skb->data;

		if ((void *)(eth + 1) > end || !mac_equals(eth->h_source, from->mac))
			return OUTCOME_SPOOFED;
	}
	if (skb->gso_size)
		size = packet->headers + skb->gso_size;
	if (size > decision->to->mtu)
		return OUTCOME_TOO_BIG;
	if (state == FLOW_OPEN)
		return OUTCOME_HIT;
	return pass_fence(flow, fence, packet->segments, &decision->fence_tag);
}

#endif
