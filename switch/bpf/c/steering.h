/* SPDX-License-Identifier: Apache-2.0 */
/* What the steering programs and src/maps.rs agree on. */
#ifndef HEDDLE_STEERING_H
#define HEDDLE_STEERING_H

#include <linux/types.h>

/* Interfaces that can have a socket: pods and the host. */
#define HEDDLE_MAX_PORTS 4096
/* Receive queues of the uplink that can have a socket. */
#define HEDDLE_MAX_UPLINK_QUEUES 256
/* Addresses of the uplink that the overlay listens on. */
#define HEDDLE_MAX_UPLINK_ADDRESSES 64

/* Which packets on the uplink are the overlay's. */
struct uplink_filter {
	__be32 vni;  /* as in the VXLAN header (RFC 7348 section 5): upper 24 bits, reserved byte zero */
	__be16 port; /* UDP destination port */
	__u16 pad;
};

/* An address of the uplink; IPv4 addresses are IPv4-mapped (RFC 4291 section 2.5.5.2). */
struct uplink_address {
	__u8 octets[16];
};

#endif
