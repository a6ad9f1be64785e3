/* SPDX-License-Identifier: Apache-2.0 */
/* Recognising a packet that can belong to a flow: from the middle of a TCP connection, or UDP, and nothing unusual. */
#ifndef HEDDLE_PARSE_H
#define HEDDLE_PARSE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "flow_cache.h"

/* More fragments, or an offset (RFC 791 section 3.1). */
#define IPV4_FRAGMENT bpf_htons(0x3fff)
/* Version 4, five words: no options. */
#define IPV4_PLAIN 0x45

/* In the 14th octet of a TCP header (RFC 9293 section 3.1). */
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define TCP_URG 0x20

/* Ethernet, IPv6 and TCP without options: the most that is read. */
#define HEADERS_READ (ETH_HLEN + 40 + 20)

struct packet {
	struct flow_key key;
	__u32 length;   /* of the IP packet; of a super-packet, all payload with one set of headers */
	__u32 headers;  /* of IP and transport, bytes */
	__u32 segments; /* packets on the wire */
};

enum parsed {
	PARSED_FLOW,
	PARSED_UNUSUAL,
	PARSED_CUT, /* headers go on beyond the linear part of the buffer */
};

/* `length` is that of everything behind the IP header, which was compared with what is there. */
static __always_inline enum parsed parse_transport(void *l4, void *end, __u32 length, struct packet *packet)
{
	if (packet->key.protocol == IPPROTO_TCP) {
		__u8 *tcp = l4;
		__u32 header;

		if (l4 + sizeof(struct tcphdr) > end)
			return PARSED_CUT;
		/* A worker sees every opening and every close. */
		if ((tcp[13] & (TCP_ACK | TCP_SYN | TCP_FIN | TCP_RST | TCP_URG)) != TCP_ACK)
			return PARSED_UNUSUAL;
		header = (tcp[12] >> 4) * 4;
		if (header < sizeof(struct tcphdr) || header > length)
			return PARSED_UNUSUAL;
		packet->headers = packet->length - length + header;
		packet->key.source_port = ((struct tcphdr *)l4)->source;
		packet->key.destination_port = ((struct tcphdr *)l4)->dest;
		return PARSED_FLOW;
	}
	if (packet->key.protocol == IPPROTO_UDP) {
		struct udphdr *udp = l4;

		if ((void *)(udp + 1) > end)
			return PARSED_CUT;
		if (bpf_ntohs(udp->len) != length)
			return PARSED_UNUSUAL;
		packet->headers = packet->length - length + sizeof(*udp);
		packet->key.source_port = udp->source;
		packet->key.destination_port = udp->dest;
		return PARSED_FLOW;
	}
	return PARSED_UNUSUAL;
}

/* RFC 1071: with its checksum, a header without options sums up to all ones. */
static __always_inline int ipv4_checksum_is_right(const struct iphdr *ip)
{
	const __u32 *words = (const __u32 *)ip;
	__u64 sum = (__u64)words[0] + words[1] + words[2] + words[3] + words[4];

	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

static __always_inline enum parsed parse_ipv4(void *l3, void *end, struct packet *packet)
{
	struct iphdr *ip = l3;

	if ((void *)(ip + 1) > end)
		return PARSED_CUT;
	if (*(__u8 *)l3 != IPV4_PLAIN || (ip->frag_off & IPV4_FRAGMENT) || ip->ttl <= 1)
		return PARSED_UNUSUAL;
	/* Padding would have to be cut off, and a longer length is a lie. */
	if (bpf_ntohs(ip->tot_len) != packet->length)
		return PARSED_UNUSUAL;
	if (!ipv4_checksum_is_right(ip))
		return PARSED_UNUSUAL;
	packet->key.source[2] = bpf_htonl(0xffff);
	packet->key.source[3] = ip->saddr;
	packet->key.destination[2] = bpf_htonl(0xffff);
	packet->key.destination[3] = ip->daddr;
	packet->key.protocol = ip->protocol;
	packet->key.family = 4;
	return parse_transport(ip + 1, end, packet->length - sizeof(*ip), packet);
}

static __always_inline enum parsed parse_ipv6(void *l3, void *end, struct packet *packet)
{
	struct ipv6hdr *ip = l3;
	__u32 length;

	if ((void *)(ip + 1) > end)
		return PARSED_CUT;
	if (ip->version != 6 || ip->hop_limit <= 1)
		return PARSED_UNUSUAL;
	length = bpf_ntohs(ip->payload_len);
	if (length + sizeof(*ip) != packet->length)
		return PARSED_UNUSUAL;
	__builtin_memcpy(packet->key.source, &ip->saddr, sizeof(packet->key.source));
	__builtin_memcpy(packet->key.destination, &ip->daddr, sizeof(packet->key.destination));
	packet->key.protocol = ip->nexthdr;
	packet->key.family = 6;
	return parse_transport(ip + 1, end, length, packet);
}

static __always_inline int mac_equals(const __u8 *one, const __u8 *other)
{
	const __u16 *a = (const __u16 *)one, *b = (const __u16 *)other;

	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]));
}

static __always_inline enum parsed parse_linear(struct __sk_buff *skb, const __u8 *router, struct packet *packet)
{
	void *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = (void *)(long)skb->data;

	if ((void *)(eth + 1) > end)
		return PARSED_UNUSUAL;
	/* Not for the router: neighbors are asked, groups are called, or somebody means another. */
	if (!mac_equals(eth->h_dest, router))
		return PARSED_UNUSUAL;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		return parse_ipv4(eth + 1, end, packet);
	if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(eth + 1, end, packet);
	return PARSED_UNUSUAL;
}

/* Parses a packet to the router's MAC into `packet`, which is all zero. Packet pointers are void afterwards. */
static __always_inline enum parsed parse(struct __sk_buff *skb, const __u8 *router, struct packet *packet)
{
	enum parsed parsed;

	/* The tag is beside the packet, which would look like one without. */
	if (skb->vlan_present || skb->len < ETH_HLEN)
		return PARSED_UNUSUAL;
	packet->length = skb->len - ETH_HLEN;
	packet->key.ifindex = skb->ifindex;
	parsed = parse_linear(skb, router, packet);
	if (parsed == PARSED_CUT) {
		__u32 wanted = skb->len < HEADERS_READ ? skb->len : HEADERS_READ;

		if (bpf_skb_pull_data(skb, wanted))
			return PARSED_UNUSUAL;
		parsed = parse_linear(skb, router, packet);
	}
	if (parsed != PARSED_FLOW)
		return PARSED_UNUSUAL;
	packet->segments = 1;
	if (skb->gso_size) {
		packet->segments = skb->gso_segs;
		/* Not counted yet when the packet comes from outside the kernel, by a packet socket or tun. */
		if (!packet->segments)
			packet->segments = (packet->length - packet->headers + skb->gso_size - 1) / skb->gso_size;
		if (!packet->segments)
			packet->segments = 1;
	}
	return PARSED_FLOW;
}

#endif
