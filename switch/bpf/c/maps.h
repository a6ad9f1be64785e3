/* SPDX-License-Identifier: Apache-2.0 */
/* The flow cache's maps. All but `flows`, `ports` and `peers` are arrays, whose lookups the kernel inlines. */
#ifndef HEDDLE_MAPS_H
#define HEDDLE_MAPS_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "flow_cache.h"

/* Preallocated and not LRU: a full map refuses a new flow and never forgets an old one. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HEDDLE_FLOWS);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HEDDLE_HOPS);
	__type(key, __u32);
	__type(value, struct hop);
} hops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HEDDLE_FENCES);
	__type(key, __u32);
	__type(value, struct fence);
} fences SEC(".maps");

/* By interface index. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HEDDLE_FLOW_CACHE_PORTS);
	__type(key, __u32);
	__type(value, struct port);
} ports SEC(".maps");

struct address {
	__be32 words[4]; /* IPv4-mapped if IPv4 */
};

/* Hop of a VTEP, by outer address. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HEDDLE_PEERS);
	__type(key, struct address);
	__type(value, __u32);
} peers SEC(".maps");

/* Interface indices of the workers' trunks; 0: none. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HEDDLE_TRUNKS);
	__type(key, __u32);
	__type(value, __u32);
} trunks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counters SEC(".maps");

static __always_inline void count(enum outcome outcome)
{
	__u32 zero = 0;
	struct counters *mine = bpf_map_lookup_elem(&counters, &zero);

	if (mine)
		mine->count[outcome]++;
}

static __always_inline struct settings *get_settings(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

#endif
