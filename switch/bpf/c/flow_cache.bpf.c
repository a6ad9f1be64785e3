// SPDX-License-Identifier: Apache-2.0
/*
 * The flow cache: packets of flows that a worker has judged go on in the kernel, all others go up to a worker and come back.
 *
 *   from_endpoint  ingress of the host ends of pods' veths, and of heddle0-sw, the host's
 *   from_overlay   ingress of heddle-vx, a vxlan device in external mode
 *   from_trunk     ingress of heddle-tN, this end of the veth to worker N
 *
 * Nothing passes to the host's stack here: what can neither go on nor up is dropped and counted (enum outcome).
 *
 * Hops. Everything a packet comes from or goes to has a number: endpoint n is hop n, the host 0, VTEP n is 0x8000 + n. A hop's
 * generation changes whenever what was judged about it no longer holds; flows carry the generations they were judged at,
 * so one write revokes all flows of a hop. A number gets a new owner only some time after it was cleared.
 *
 * Flows. A packet is forwarded by its flow if everything about it is usual (parse.h) and as it was when the flow was judged:
 * both hops' generations, the sender's MAC or VTEP, the size. Then it loses a hop, has its address and port rewritten if the
 * flow says so, and leaves with its segmentation intact. A new flow is pending: packets go up, each with its number in the
 * flow's fence, until the last has come back down, so that none overtakes another (pass_fence in decide.h).
 *
 * Tags. Worker and programs tell each other in the MACs of the frames on the trunk what is not in the packet:
 *   up    source       02:4d:<hop>, or 02:4f:<hop> if it was not the endpoint's MAC; a VTEP that is no peer is ffffffff
 *         destination  the packet's own, or 02:4e:<fence>:<sequence>, 16 bits each: of a pending flow, was to the router
 *   down  destination  02:4d:<hop>
 *         source       the packet's 02:4e:<fence>:<sequence> if it had one, else anything
 * Numbers in network byte order. Frames on the trunk have complete checksums and one segment: the device's features see to it.
 * GRO stays off there, as it is on a new veth: it takes packets of different sequences for different flows, and lets some pass.
 *
 * Units. Lengths are bytes of IP packets. A flow's packets and bytes are as on the wire, so a super-packet counts as its
 * segments, each with its headers; outcomes are counted as the programs see packets. Times are CLOCK_MONOTONIC, in ns.
 */
#include "deliver.h"

static __always_inline enum outcome look_up(struct __sk_buff *skb, const __u8 *router, const struct address *remote,
					    struct packet *packet, struct flow **flow, struct decision *decision)
{
	if (parse(skb, router, packet) != PARSED_FLOW)
		return OUTCOME_UNUSUAL;
	*flow = bpf_map_lookup_elem(&flows, &packet->key);
	if (!*flow)
		return OUTCOME_MISS;
	return decide(skb, packet, *flow, remote, decision);
}

/* How long a socket takes at most to come into being from the packet that completes its handshake, and reads of the clock that
 * take longer. */
#define HANDSHAKE_NS 10000
#define HANDSHAKE_READS 512

/* A handshake is completed on the processor that the worker delivers the SYN-ACK on, and what the opener sends next comes by its
 * own, at the same moment. Linux finds neither request nor socket while it puts one in the other's place (inet_ehash_insert,
 * net/ipv4/inet_hashtables.c), and resets the connection of a packet that comes just then: one connection in a hundred thousand.
 * So a packet right behind a flow's first waits, if it is on another processor. */
static __always_inline void let_the_first_arrive(struct flow *flow, const struct packet *packet, __u64 earlier)
{
	__u32 processor = bpf_get_smp_processor_id();
	int reads;

	if (earlier > 1 || packet->key.protocol != IPPROTO_TCP || !(flow->flags & FLOW_ORIGINAL))
		return;
	if (!earlier) {
		flow->first_cpu = processor;
		barrier();
		*(volatile __u64 *)&flow->first_seen = bpf_ktime_get_ns();
		return;
	}
	for (reads = 0; reads < HANDSHAKE_READS; reads++) {
		__u64 first = *(volatile __u64 *)&flow->first_seen;

		if (first && (*(volatile __u32 *)&flow->first_cpu == processor ||
			      bpf_ktime_get_ns() - first > HANDSHAKE_NS))
			return;
	}
}

static __always_inline int forward(struct __sk_buff *skb, const struct settings *settings, const struct packet *packet,
				   struct flow *flow, const struct decision *decision)
{
	/* What was parsed is still there; short of memory for a copy to write to, it is lost. */
	if (change(skb, settings, packet, decision))
		return TC_ACT_SHOT;
	/* Any processor may send on a flow. */
	let_the_first_arrive(flow, packet, __sync_fetch_and_add(&flow->packets, packet->segments));
	__sync_fetch_and_add(&flow->bytes, packet->length + (packet->segments - 1) * packet->headers);
	*(volatile __u64 *)&flow->last_seen = bpf_ktime_get_coarse_ns();
	return deliver(skb, settings, decision->to, decision->state, OUTCOME_HIT);
}

static __always_inline int up_from_endpoint(struct __sk_buff *skb, enum outcome outcome, __u32 fence_tag)
{
	static const __u8 any[ETH_ALEN] = {};
	__u32 ifindex = skb->ifindex;
	struct port *port = bpf_map_lookup_elem(&ports, &ifindex);
	void *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = (void *)(long)skb->data;

	if (!port || (void *)(eth + 1) > end)
		return drop(OUTCOME_NO_PORT);
	if (!mac_equals(port->mac, any) && !mac_equals(port->mac, eth->h_source))
		outcome = OUTCOME_SPOOFED;
	return send_up(skb, port->trunk, port->hop, outcome, fence_tag);
}

SEC("tcx/ingress")
int from_endpoint(struct __sk_buff *skb)
{
	struct settings *settings = get_settings();
	struct decision decision = {};
	struct packet packet = {};
	struct flow *flow = NULL;
	enum outcome outcome;

	if (!settings)
		return drop(OUTCOME_NO_PORT);
	outcome = look_up(skb, settings->gateway_mac, NULL, &packet, &flow, &decision);
	if (outcome == OUTCOME_HIT)
		return forward(skb, settings, &packet, flow, &decision);
	return up_from_endpoint(skb, outcome, decision.fence_tag);
}

/* The sender's address and VNI. A helper call gets one only if it names the family. */
static __always_inline int get_tunnel(struct __sk_buff *skb, struct address *remote, __u32 *vni, __u8 family)
{
	struct bpf_tunnel_key key;

	if (bpf_skb_get_tunnel_key(skb, &key, TUNNEL_KEY_OLD, family == 6 ? BPF_F_TUNINFO_IPV6 : 0))
		return -1;
	*vni = key.tunnel_id;
	if (family == 6) {
		__builtin_memcpy(remote->words, key.remote_ipv6, sizeof(remote->words));
	} else {
		remote->words[2] = bpf_htonl(0xffff);
		remote->words[3] = bpf_htonl(key.remote_ipv4);
	}
	return 0;
}

static __always_inline int up_from_overlay(struct __sk_buff *skb, const struct settings *settings,
					   struct address *remote, enum outcome outcome, __u32 fence_tag)
{
	__u32 *peer = bpf_map_lookup_elem(&peers, remote);
	__u32 index, *trunk;

	/* A flow stays with one worker, or packets of it would overtake each other: by a hash of what is inside, not by one
	 * of the outer packet or of the sender's socket. */
	bpf_set_hash_invalid(skb);
	index = (__u64)bpf_get_hash_recalc(skb) * settings->trunks >> 32;
	trunk = bpf_map_lookup_elem(&trunks, &index);
	if (!trunk || index >= settings->trunks)
		return drop(OUTCOME_NO_PORT);
	if (!peer)
		return send_up(skb, *trunk, HEDDLE_UNKNOWN_HOP, OUTCOME_UNKNOWN_PEER, 0);
	return send_up(skb, *trunk, *peer, outcome, fence_tag);
}

SEC("tcx/ingress")
int from_overlay(struct __sk_buff *skb)
{
	struct settings *settings = get_settings();
	struct decision decision = {};
	struct address remote = {};
	struct packet packet = {};
	struct flow *flow = NULL;
	enum outcome outcome;
	__u32 vni = 0;
	__u8 family;

	if (!settings)
		return drop(OUTCOME_NO_PORT);
	family = settings->family == 6 ? 6 : 4;
	if (get_tunnel(skb, &remote, &vni, family) && get_tunnel(skb, &remote, &vni, 10 - family))
		return drop(OUTCOME_OTHER_VNI);
	if (vni != settings->vni)
		return drop(OUTCOME_OTHER_VNI);
	outcome = look_up(skb, settings->vtep_mac, &remote, &packet, &flow, &decision);
	if (outcome == OUTCOME_HIT)
		return forward(skb, settings, &packet, flow, &decision);
	return up_from_overlay(skb, settings, &remote, outcome, decision.fence_tag);
}

static __always_inline void note_return(__u32 tag, __u32 segments)
{
	__u32 number = tag >> 16;
	struct fence *fence = bpf_map_lookup_elem(&fences, &number);

	if (!fence)
		return;
	if (fence->seq != (__u16)tag) {
		fence->seq = tag;
		fence->count = 0;
	}
	fence->count += segments ? segments : 1;
}

SEC("tcx/ingress")
int from_trunk(struct __sk_buff *skb)
{
	void *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = (void *)(long)skb->data;
	struct settings *settings = get_settings();
	struct hop_state state;
	struct hop *hop;
	__u32 number;

	if (!settings || (void *)(eth + 1) > end || tag_kind(eth->h_dest) != TAG_HOP)
		return drop(OUTCOME_BAD_TAG);
	number = tag_value(eth->h_dest);
	if (tag_kind(eth->h_source) == TAG_FENCE)
		note_return(tag_value(eth->h_source), skb->gso_segs);
	hop = bpf_map_lookup_elem(&hops, &number);
	if (!hop)
		return drop(OUTCOME_NO_HOP);
	state = read_state(hop);
	if (state.kind == HOP_NONE)
		return drop(OUTCOME_NO_HOP);
	set_macs(eth, hop->mac, state.kind == HOP_VTEP ? settings->vtep_mac : settings->gateway_mac);
	return deliver(skb, settings, hop, state, OUTCOME_DELIVERED);
}

char LICENSE[] SEC("license") = "Apache-2.0";
