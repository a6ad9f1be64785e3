/* SPDX-License-Identifier: Apache-2.0 */
/* What forwarding changes in a packet: hop limit, MACs, and an address with its port if the flow says so.
 *
 * Checksums have to stay right whatever the kernel knows about them (include/linux/skbuff.h): NONE and UNNECESSARY have a
 * complete one in the packet, PARTIAL has the pseudo header's sum there, COMPLETE also the sum of all behind the Ethernet
 * header beside the packet (skb->csum). Programs cannot see which it is; the helpers can. */
#ifndef HEDDLE_CHANGE_H
#define HEDDLE_CHANGE_H

#include "decide.h"

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* RFC 1624 section 3. */
static __always_inline __u16 amend(__u16 checksum, __u32 difference)
{
	return ~fold((__u64)(__u16)~checksum + difference);
}

static __always_inline void set_macs(struct ethhdr *eth, const __u8 *destination, const __u8 *source)
{
	__builtin_memcpy(eth->h_dest, destination, ETH_ALEN);
	__builtin_memcpy(eth->h_source, source, ETH_ALEN);
}

/* Makes checksums fit a new address, by the difference it made, and a new port. */
static __always_inline int amend_transport(struct __sk_buff *skb, const struct packet *packet, __u32 l4,
					   const struct udphdr *ports, __u32 difference, __be16 old_port,
					   __be16 new_port)
{
	__u32 check = __builtin_offsetof(struct tcphdr, check);
	__u64 udp = 0;

	if (packet->key.protocol == IPPROTO_UDP) {
		/* None over UDP (RFC 768) stays none, and does not even the new port out in skb->csum. */
		if (!ports->check) {
			bpf_csum_update(skb, new_port + (__u16)~old_port);
			return 0;
		}
		/* One that becomes zero is sent as all ones. */
		check = __builtin_offsetof(struct udphdr, check);
		udp = BPF_F_MARK_MANGLED_0;
	}
	if (bpf_l4_csum_replace(skb, l4 + check, 0, difference, BPF_F_PSEUDO_HDR | udp))
		return -1;
	return bpf_l4_csum_replace(skb, l4 + check, old_port, new_port, udp | sizeof(new_port));
}

static __always_inline int change_ipv4(struct __sk_buff *skb, const struct packet *packet,
				       const struct decision *decision, struct iphdr *ip, void *end)
{
	struct udphdr *ports = (void *)(ip + 1); /* TCP has its ports at the same place */
	__be32 old_address, new_address = decision->rewrite_address[3];
	__be16 old_port;
	__u32 difference;

	if ((void *)(ports + 1) > end)
		return -1;
	ip->ttl--;
	ip->check = amend(ip->check, (__u16)~bpf_htons(0x0100));
	if (!(decision->flags & (FLOW_REWRITE_SOURCE | FLOW_REWRITE_DESTINATION)))
		return 0;
	if (decision->flags & FLOW_REWRITE_SOURCE) {
		old_address = ip->saddr;
		old_port = ports->source;
		ip->saddr = new_address;
		ports->source = decision->rewrite_port;
	} else {
		old_address = ip->daddr;
		old_port = ports->dest;
		ip->daddr = new_address;
		ports->dest = decision->rewrite_port;
	}
	difference = bpf_csum_diff(&old_address, sizeof(old_address), &new_address, sizeof(new_address), 0);
	ip->check = amend(ip->check, difference);
	return amend_transport(skb, packet, ETH_HLEN + sizeof(*ip), ports, difference, old_port,
			       decision->rewrite_port);
}

static __always_inline int change_ipv6(struct __sk_buff *skb, const struct packet *packet,
				       const struct decision *decision, struct ipv6hdr *ip, void *end)
{
	struct udphdr *ports = (void *)(ip + 1);
	__be32 old_address[4], new_address[4];
	__be16 old_port;
	__u32 difference;

	if ((void *)(ports + 1) > end)
		return -1;
	ip->hop_limit--;
	/* No header checksum evens this out. No more than COMPLETE has anything to update. */
	bpf_csum_update(skb, ~(__u32)bpf_htons(1));
	if (!(decision->flags & (FLOW_REWRITE_SOURCE | FLOW_REWRITE_DESTINATION)))
		return 0;
	__builtin_memcpy(new_address, decision->rewrite_address, sizeof(new_address));
	if (decision->flags & FLOW_REWRITE_SOURCE) {
		__builtin_memcpy(old_address, &ip->saddr, sizeof(old_address));
		old_port = ports->source;
		__builtin_memcpy(&ip->saddr, new_address, sizeof(new_address));
		ports->source = decision->rewrite_port;
	} else {
		__builtin_memcpy(old_address, &ip->daddr, sizeof(old_address));
		old_port = ports->dest;
		__builtin_memcpy(&ip->daddr, new_address, sizeof(new_address));
		ports->dest = decision->rewrite_port;
	}
	difference = bpf_csum_diff(old_address, sizeof(old_address), new_address, sizeof(new_address), 0);
	if (amend_transport(skb, packet, ETH_HLEN + sizeof(*ip), ports, difference, old_port, decision->rewrite_port))
		return -1;
	/* Amending a checksum took the difference from skb->csum, as if an IPv4 header's had changed with the address
	 * (inet_proto_csum_replace_by_diff, net/core/utils.c); the flag against it, BPF_F_IPV6, is too new to ask for.
	 * Without a checksum to amend, the new address is not in the sum yet. Either way it is to be added. */
	bpf_csum_update(skb, difference);
	return 0;
}

/* Makes a parsed packet what its next hop is to see. Packet pointers are void afterwards. */
static __always_inline int change(struct __sk_buff *skb, const struct settings *settings, const struct packet *packet,
				  const struct decision *decision)
{
	void *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = (void *)(long)skb->data;

	if ((void *)(eth + 1) > end)
		return -1;
	set_macs(eth, decision->to->mac,
		 decision->state.kind == HOP_VTEP ? settings->vtep_mac : settings->gateway_mac);
	if (packet->key.family == 4)
		return change_ipv4(skb, packet, decision, (void *)(eth + 1), end);
	return change_ipv6(skb, packet, decision, (void *)(eth + 1), end);
}

#endif
