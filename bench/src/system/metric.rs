//! The numbers that come out of a scenario.

use serde::{Serialize, Serializer};

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// What is said of a metric.
#[derive(Clone, Copy)]
pub(crate) struct About {
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    /// What it means and how it is taken, for readers of the report.
    pub(crate) meaning: &'static str,
}

/// Declares each metric once: its key in the report, title, unit, which way is good, and what it means.
macro_rules! metrics {
    ($($variant:ident $key:literal $title:literal $unit:literal $better:ident $meaning:literal,)*) => {
        /// A number that a scenario gives.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(crate) enum Metric { $($variant,)* }

        impl Metric {
            /// By discriminant.
            const ABOUT: &[About] = &[$(About {
                key: $key,
                title: $title,
                unit: $unit,
                better: Better::$better,
                meaning: $meaning,
            },)*];

            pub(crate) fn about(self) -> About {
                Self::ABOUT[self as usize]
            }
        }
    };
}

metrics! {
    Throughput "throughput" "throughput" "Gb/s" Higher
        "Payload that the receiving pod has read from one TCP connection, by its own clock. The sender writes 128 KiB \
         at a time and never pauses; congestion control and buffers are the kernel's defaults.",
    Delivered "delivered" "packets delivered" "kpps" Higher
        "UDP packets of 64 bytes on a cable (18 bytes of payload) that the receiving pod has read. The sender hands them \
         to the kernel 64 at a time and never waits, so this is a system under too much load: what it still delivers.",
    Sent "sent" "packets sent" "kpps" Higher
        "What the sending pod got rid of meanwhile. The difference to what was delivered is lost. Not a virtue by itself: \
         a system that drops early lets its sender go on.",
    LatencyP50 "p50" "round trip, median" "µs" Lower
        "One byte there and one back over an open TCP connection, nothing else under way: half of the requests waited \
         no longer than this. Both pods sleep while they wait, so waking a process is part of it, twice; waking a core is only \
         where the two were kept apart (the placement, above).",
    LatencyP99 "p99" "round trip, 99th percentile" "µs" Lower
        "The same; one request in a hundred waited longer. On a shared machine much of that is the neighbours.",
    RoundTrips "round_trips" "round trips" "1/s" Higher
        "How many of these requests were answered in a second, one after the other.",
    ConnectionRate "rate" "connections" "1/s" Higher
        "TCP connections by one client, one after the other: connect, one byte there, one byte back, close. Every one is \
         new to the network, so this is the price of the first packets.",
    MapOperations "map_operations" "flow cache operations per connection" "" Lower
        "Writes to the kernel's flow cache that the switch made meanwhile, divided by the connections of the load.",
    AddP50 "add_p50" "CNI ADD, median" "ms" Lower
        "From executing the plugin to its end, as a container runtime waits for it: half of the pods had their network within \
         that time. Their network namespaces are there before. Heddle's policy is in force for a pod when it has been added.",
    AddP99 "add_p99" "CNI ADD, 99th percentile" "ms" Lower
        "The same; one pod in a hundred waited longer.",
    DelP50 "del_p50" "CNI DEL, median" "ms" Lower
        "The same for taking a pod's network away.",
    DelP99 "del_p99" "CNI DEL, 99th percentile" "ms" Lower
        "The same; one pod in a hundred waited longer.",
    SwitchCpu "switch_cpu" "CPU of heddle-switch" "% of a core" Lower
        "Time that all threads of the daemon ran while no pod sent anything, from the scheduler's accounts \
         (/proc/PID/task/*/schedstat). What its packets cost the kernel elsewhere is not in it; there are none.",
    AgentCpu "agent_cpu" "CPU of heddle-agent" "% of a core" Lower
        "The same for the agent that compiles policy.",
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.about().key)
    }
}
