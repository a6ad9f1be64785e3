// SPDX-License-Identifier: Apache-2.0
/*
 * Steering: which packets go up to the switch.
 *
 * steer_port, on the host's end of every pod's veth (and of the host's own): all of them. With no socket to take a packet it
 * is dropped, never passed: what the switch has not judged does not reach the host's stack.
 *
 * steer_uplink, on the node's network card: the overlay's, that is VXLAN of our VNI to our port at one of our addresses.
 * Anything else is the node's own traffic and passes, and so does the overlay's when there is no socket.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "steering.h"

/* Slot of an interface's socket, by interface index. One program for all ports: loading one takes milliseconds. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HEDDLE_MAX_PORTS);
	__type(key, __u32);
	__type(value, __u32);
} port_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, HEDDLE_MAX_PORTS);
	__type(key, __u32);
	__type(value, __u32);
} port_sockets SEC(".maps");

/* By receive queue. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, HEDDLE_MAX_UPLINK_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} uplink_sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct uplink_filter);
} uplink_filters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HEDDLE_MAX_UPLINK_ADDRESSES);
	__type(key, struct uplink_address);
	__type(value, __u8);
} uplink_addresses SEC(".maps");

/* RFC 7348 section 5. */
struct vxlan_header {
	__be32 flags;
	__be32 vni;
};
#define VXLAN_FLAG_VNI bpf_htonl(0x08000000)
#define VXLAN_VNI_MASK bpf_htonl(0xffffff00)

/* More fragments, or an offset (RFC 791 section 3.1); the don't-fragment bit is none of our business. */
#define IPV4_FRAGMENT bpf_htons(0x3fff)

SEC("xdp")
int steer_port(struct xdp_md *ctx)
{
	__u32 ifindex = ctx->ingress_ifindex;
	__u32 *slot = bpf_map_lookup_elem(&port_slots, &ifindex);

	if (!slot)
		return XDP_DROP;
	return bpf_redirect_map(&port_sockets, *slot, XDP_DROP);
}

/* The UDP header behind an IPv4 header, and the destination address; NULL for everything that is not whole UDP. */
static __always_inline struct udphdr *udp_over_ipv4(void *l3, void *end, struct uplink_address *destination)
{
	struct iphdr *ip = l3;

	if ((void *)(ip + 1) > end)
		return NULL;
	if (ip->version != 4 || ip->ihl < 5 || ip->protocol != IPPROTO_UDP)
		return NULL;
	if (ip->frag_off & IPV4_FRAGMENT)
		return NULL;
	destination->octets[10] = 0xff;
	destination->octets[11] = 0xff;
	__builtin_memcpy(&destination->octets[12], &ip->daddr, sizeof(ip->daddr));
	return l3 + ip->ihl * 4;
}

/* The same for IPv6. Extension headers, fragments among them, are left to the host. */
static __always_inline struct udphdr *udp_over_ipv6(void *l3, void *end, struct uplink_address *destination)
{
	struct ipv6hdr *ip = l3;

	if ((void *)(ip + 1) > end)
		return NULL;
	if (ip->version != 6 || ip->nexthdr != IPPROTO_UDP)
		return NULL;
	__builtin_memcpy(destination->octets, &ip->daddr, sizeof(ip->daddr));
	return (void *)(ip + 1);
}

static __always_inline int is_overlay(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct uplink_address destination = {};
	struct uplink_filter *filter;
	struct vxlan_header *vxlan;
	struct udphdr *udp;
	__u32 zero = 0;

	if ((void *)(eth + 1) > end)
		return 0;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		udp = udp_over_ipv4(eth + 1, end, &destination);
	else if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		udp = udp_over_ipv6(eth + 1, end, &destination);
	else
		return 0;
	if (!udp || (void *)(udp + 1) > end)
		return 0;
	vxlan = (void *)(udp + 1);
	if ((void *)(vxlan + 1) > end)
		return 0;
	filter = bpf_map_lookup_elem(&uplink_filters, &zero);
	if (!filter || udp->dest != filter->port)
		return 0;
	if (!(vxlan->flags & VXLAN_FLAG_VNI) || (vxlan->vni & VXLAN_VNI_MASK) != filter->vni)
		return 0;
	return bpf_map_lookup_elem(&uplink_addresses, &destination) != NULL;
}

SEC("xdp")
int steer_uplink(struct xdp_md *ctx)
{
	if (!is_overlay(ctx))
		return XDP_PASS;
	return bpf_redirect_map(&uplink_sockets, ctx->rx_queue_index, XDP_PASS);
}

char LICENSE[] SEC("license") = "Apache-2.0";
