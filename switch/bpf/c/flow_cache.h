/* SPDX-License-Identifier: Apache-2.0 */
/* The shapes that the flow cache's programs and src/flow_cache/shapes.rs agree on; flow_cache.bpf.c says what they mean. */
#ifndef HEDDLE_FLOW_CACHE_H
#define HEDDLE_FLOW_CACHE_H

#include <linux/types.h>

/* Raised whenever a shape or a meaning changes: maps of another format are not taken over. */
#define HEDDLE_FLOW_CACHE_FORMAT 2

#define HEDDLE_HOPS 65536
#define HEDDLE_FENCES 65536
#define HEDDLE_TRUNKS 256
/* Interfaces that packets of endpoints come in by. */
#define HEDDLE_FLOW_CACHE_PORTS 8192
/* Nodes, twice their planned number. */
#define HEDDLE_PEERS 16384
/* As many flows as src/flow_cache asks for; this is only what the object file says. */
#define HEDDLE_FLOWS 65536

/* The hop of a packet from a VTEP that is no peer. */
#define HEDDLE_UNKNOWN_HOP 0xffffffff

enum hop_kind {
	HOP_NONE,
	HOP_ENDPOINT,
	HOP_HOST,
	HOP_VTEP,
};

/* The state a hop is in: one aligned word, so that a change is seen as a whole. */
struct hop_state {
	__u32 generation;
	__u8 kind;   /* enum hop_kind */
	__u8 family; /* of a VTEP's outer address: 4 or 6 */
	__u16 pad;
};

#define HOP_QUEUED 1 /* endpoint: packets leave by the interface's queue, which limits them */

/* Where packets go, and who they come from. */
struct hop {
	struct hop_state state;
	__u32 ifindex;   /* endpoint: host end of its veth; host: the interface of Linux that receives */
	__u32 mtu;       /* largest IP packet, bytes */
	__u8 mac[6];     /* endpoint's, host interface's; VTEP: inner destination */
	__u16 flags;     /* HOP_QUEUED */
	__be32 outer[4]; /* VTEP: its address, IPv4-mapped if IPv4 (RFC 4291 section 2.5.5.2) */
};

/* Who is behind an interface. */
struct port {
	__u32 hop;
	__u32 trunk; /* ifindex: where its misses go */
	__u8 mac[6]; /* of the endpoint; all zero: any will do */
	__u16 pad;
};

struct settings {
	__u32 format;   /* HEDDLE_FLOW_CACHE_FORMAT */
	__u32 vni;      /* 24 bits */
	__u32 vxlan;    /* ifindex of the vxlan device; 0: there is none */
	__u32 trunks;   /* how many of the map `trunks` are in use */
	__u8 gateway_mac[6];
	__u8 vtep_mac[6];
	__u8 family;    /* of `local`: 4 or 6; 0: routing chooses */
	__u8 pad[3];
	__be32 local[4]; /* this node's VTEP address, as in struct hop */
};

struct flow_key {
	__be32 source[4];      /* IPv4-mapped if IPv4 */
	__be32 destination[4];
	__be16 source_port;
	__be16 destination_port;
	__u32 ifindex;         /* came in by */
	__u8 protocol;         /* IANA: 6 or 17 */
	__u8 family;           /* 4 or 6: an IPv6 packet may carry IPv4-mapped addresses */
	__u16 pad;
};

enum flow_state {
	FLOW_PENDING,
	FLOW_OPEN,
};

#define FLOW_ORIGINAL 1            /* goes the way the connection was opened */
#define FLOW_REWRITE_SOURCE 2
#define FLOW_REWRITE_DESTINATION 4 /* not both */

struct flow {
	/* Of the key, compared after all else was read (see `decide` in decide.h): stays the first word. */
	__be16 source_port;
	__be16 destination_port;
	__be32 destination; /* its last 32 bits */

	__u32 from; /* hops */
	__u32 to;
	__u32 from_generation;
	__u32 to_generation;
	__u8 state;          /* enum flow_state; the program opens, nobody closes */
	__u8 flags;
	__be16 rewrite_port;
	__u32 fence;         /* index into `fences` */
	__be32 rewrite_address[4];
	__u64 pending_until; /* CLOCK_MONOTONIC, ns */

	/* Written by the program, from 0. */
	__u64 packets;   /* on the wire: every segment of a super-packet */
	__u64 bytes;     /* of their IP packets */
	__u64 last_seen; /* CLOCK_MONOTONIC_COARSE, ns; 0: never */
	__u64 first_seen; /* CLOCK_MONOTONIC, ns; 0: never */
	__u32 first_cpu; /* where that was */
	__u32 pad;
};

/* How much of a pending flow is on its way through the worker. */
struct fence {
	__u32 up;    /* packets sent up */
	__u16 seq;   /* low bits of `up` when the newest that came back was sent up */
	__u16 count; /* packets that came back with that `seq` */
};

/* What became of packets. Every one that enters a program counts once, a super-packet too; `forced` comes on top. */
enum outcome {
	OUTCOME_HIT,          /* forwarded by its flow */
	OUTCOME_MISS,         /* up: no such flow */
	OUTCOME_REVOKED,      /* up: a flow, but one of its hops is not what it was */
	OUTCOME_PENDING,      /* up: a flow whose older packets are still on their way through the worker */
	OUTCOME_FORCED,       /* hits that stopped waiting for a lost packet */
	OUTCOME_UNUSUAL,      /* up: no packet in the middle of a TCP or UDP flow */
	OUTCOME_TOO_BIG,      /* up: larger than the next hop takes */
	OUTCOME_SPOOFED,      /* up, marked: not the endpoint's MAC */
	OUTCOME_UNKNOWN_PEER, /* up, marked: from a VTEP that is no peer */
	OUTCOME_DELIVERED,    /* down: from the worker to where it said */
	OUTCOME_NO_PORT,      /* dropped: nobody is known behind the interface, or there is no trunk */
	OUTCOME_OTHER_VNI,    /* dropped: another network's */
	OUTCOME_NO_HOP,       /* dropped: from the worker, for a hop that is not there */
	OUTCOME_BAD_TAG,      /* dropped: on a trunk, but not the worker's */
	OUTCOME_NO_TUNNEL,    /* dropped: for a VTEP, but the tunnel header was refused */
	OUTCOMES,
};

/* Room for outcomes to come without a new shape. */
#define HEDDLE_COUNTERS 32

struct counters {
	__u64 count[HEDDLE_COUNTERS];
};

#endif
