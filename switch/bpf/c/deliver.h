/* SPDX-License-Identifier: Apache-2.0 */
/* Where packets leave: to a hop, or up to a worker. */
#ifndef HEDDLE_DELIVER_H
#define HEDDLE_DELIVER_H

#include <linux/if_packet.h>
#include <linux/pkt_cls.h>

#include "change.h"

/* The first two octets of a MAC that is a tag; four octets of its own follow. All are locally administered. */
#define TAG_HOP 0x024d     /* hop number */
#define TAG_FENCE 0x024e   /* fence, sequence */
#define TAG_SPOOFED 0x024f /* hop number */

/* As any router of ours sends (RFC 1700, "IP Time to Live"). */
#define OUTER_HOP_LIMIT 64

/* struct bpf_tunnel_key without the local address, which kernels before 6.0 do not know. */
#define TUNNEL_KEY_OLD __builtin_offsetof(struct bpf_tunnel_key, local_ipv4)

static __always_inline int drop(enum outcome outcome)
{
	count(outcome);
	return TC_ACT_SHOT;
}

static __always_inline void write_tag(__u8 *mac, __u16 kind, __u32 value)
{
	__be16 *words = (__be16 *)mac;

	words[0] = bpf_htons(kind);
	words[1] = bpf_htons(value >> 16);
	words[2] = bpf_htons(value & 0xffff);
}

static __always_inline __u16 tag_kind(const __u8 *mac)
{
	return bpf_ntohs(*(const __be16 *)mac);
}

static __always_inline __u32 tag_value(const __u8 *mac)
{
	const __be16 *words = (const __be16 *)mac;

	return (__u32)bpf_ntohs(words[1]) << 16 | bpf_ntohs(words[2]);
}

/* Says which tunnel the packet goes by; the vxlan device writes the headers. Over IPv4 without UDP checksum (RFC 7348
 * section 4.1), over IPv6 with one (RFC 8200 section 8.1). */
static __always_inline int set_tunnel(struct __sk_buff *skb, const struct settings *settings, const struct hop *hop,
				      __u8 family)
{
	struct bpf_tunnel_key key = { .tunnel_id = settings->vni, .tunnel_ttl = OUTER_HOP_LIMIT };
	__u64 flags;

	if (family == 4) {
		flags = BPF_F_ZERO_CSUM_TX | BPF_F_DONT_FRAGMENT;
		key.remote_ipv4 = bpf_ntohl(hop->outer[3]);
		if (settings->family == 4)
			key.local_ipv4 = bpf_ntohl(settings->local[3]);
	} else {
		flags = BPF_F_TUNINFO_IPV6;
		__builtin_memcpy(key.remote_ipv6, hop->outer, sizeof(key.remote_ipv6));
		if (settings->family == 6)
			__builtin_memcpy(key.local_ipv6, settings->local, sizeof(key.local_ipv6));
	}
	if (!bpf_skb_set_tunnel_key(skb, &key, sizeof(key), flags))
		return 0;
	return bpf_skb_set_tunnel_key(skb, &key, TUNNEL_KEY_OLD, flags);
}

/* Sends a packet with the right MACs to a hop, and counts it as `done`. */
static __always_inline int deliver(struct __sk_buff *skb, const struct settings *settings, const struct hop *hop,
				   struct hop_state state, enum outcome done)
{
	if (state.kind == HOP_VTEP) {
		if (!settings->vxlan || set_tunnel(skb, settings, hop, state.family))
			return drop(OUTCOME_NO_TUNNEL);
		count(done);
		return bpf_redirect(settings->vxlan, 0);
	}
	count(done);
	/* The host's stack looks at the MAC again. A pod's does not, and takes no packet that seemed another's here; kernels whose
	 * bpf_redirect_peer scrubs packets (skb_scrub_packet, net/core/skbuff.c) would not need this. */
	if (state.kind == HOP_HOST)
		return bpf_redirect(hop->ifindex, BPF_F_INGRESS);
	if (hop->flags & HOP_QUEUED)
		return bpf_redirect(hop->ifindex, 0);
	if (skb->pkt_type != PACKET_HOST)
		bpf_skb_change_type(skb, PACKET_HOST);
	return bpf_redirect_peer(hop->ifindex, 0);
}

/* Sends a packet to a worker, tagged with what it has no other way of knowing. */
static __always_inline int send_up(struct __sk_buff *skb, __u32 trunk, __u32 hop, enum outcome outcome,
				   __u32 fence_tag)
{
	void *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = (void *)(long)skb->data;

	if ((void *)(eth + 1) > end || !trunk)
		return drop(OUTCOME_NO_PORT);
	write_tag(eth->h_source, outcome == OUTCOME_SPOOFED ? TAG_SPOOFED : TAG_HOP, hop);
	if (outcome == OUTCOME_PENDING)
		write_tag(eth->h_dest, TAG_FENCE, fence_tag);
	else if (tag_kind(eth->h_dest) == TAG_FENCE)
		/* A forged one. No MAC is as good as one that nobody has. */
		__builtin_memset(eth->h_dest, 0, ETH_ALEN);
	/* The tag is beside the packet and gets lost on the way: the worker is to see that it is no plain IP packet. */
	if (skb->vlan_present)
		eth->h_proto = bpf_htons(ETH_P_8021Q);
	count(outcome);
	return bpf_redirect(trunk, 0);
}

#endif
