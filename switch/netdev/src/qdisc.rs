//! Queueing disciplines: what lets a sender wait instead of drop when a device's ring is full, and what limits its rate.

use nix::errno::Errno;
use rtnetlink::packet_core::DefaultNla;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption, TcStats2};

use crate::error::Result;
use crate::link::Link;
use crate::netlink::{Mode, Netlink};

/// In the order of preference: fair queueing with a delay bound (RFC 8290), then a plain queue.
const PREFERRED: [&str; 2] = ["fq_codel", "pfifo"];

/// A token bucket with a queue in front of it (tc-tbf(8)). Counted are Ethernet frames, of a super-packet its segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bytes a second.
    pub rate: u64,
    /// Bytes that may leave at once after a pause. No frame larger than this leaves.
    pub burst: u32,
    /// Bytes that may wait.
    pub queue: u32,
}

/// Its kind, and its attributes (`TCA_TBF_*`, `linux/pkt_sched.h`).
const TBF: &str = "tbf";
const TBF_PARAMETERS: u16 = 1;
const TBF_RATE64: u16 = 4;
const TBF_BURST: u16 = 6;
/// `TC_LINKLAYER_ETHERNET`: packets cost their length, and no table of costs is wanted.
const ETHERNET: u8 = 1;

impl Shape {
    fn options(self) -> Vec<TcOption> {
        // struct tc_tbf_qopt: two tc_ratespec of 12 bytes, then the queue's length, bucket and peak bucket. The 32 bits for the rate
        // are overruled by those of RATE64, and the bucket by BURST.
        let mut parameters = [0; 36];
        parameters[1] = ETHERNET;
        let rate = u32::try_from(self.rate).unwrap_or(u32::MAX);
        parameters[8..12].copy_from_slice(&rate.to_ne_bytes());
        parameters[24..28].copy_from_slice(&self.queue.to_ne_bytes());
        let option = |kind, value: &[u8]| TcOption::Other(DefaultNla::new(kind, value.to_vec()));
        vec![
            option(TBF_PARAMETERS, &parameters),
            option(TBF_RATE64, &self.rate.to_ne_bytes()),
            option(TBF_BURST, &self.burst.to_ne_bytes()),
        ]
    }
}

impl Netlink {
    /// Puts a real queue on an interface whose kind comes without one (veth): `fq_codel`, or `pfifo` where the kernel
    /// has no `fq_codel`. Returns the name of the one installed. The interface needs a non-zero txqueuelen.
    pub async fn set_queueing(&self, link: &Link) -> Result<&'static str> {
        let [first, fallback] = PREFERRED;
        match self.replace_qdisc(link, first).await {
            Ok(()) => Ok(first),
            // ENOENT: no such kind (qdisc_create, net/sched/sch_api.c).
            Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::EOPNOTSUPP)) => {
                self.replace_qdisc(link, fallback).await.map(|()| fallback)
            }
            Err(error) => Err(error),
        }
    }

    /// Limits what leaves by an interface, in place of the queueing discipline that it has; a limit that is there is changed, and nothing
    /// that waits is lost.
    pub async fn shape(&self, link: &Link, shape: Shape) -> Result<()> {
        let mut message = TcMessage::with_index(index_of(link));
        message.header.parent = TcHandle::ROOT;
        message.attributes.push(TcAttribute::Kind(TBF.to_owned()));
        message.attributes.push(TcAttribute::Options(shape.options()));
        let operation = || format!("limit the rate of interface {}", link.name);
        self.change(operation, RouteNetlinkMessage::NewQueueDiscipline(message), Mode::Replace).await
    }

    /// Removes the interface's queueing discipline; without one is fine.
    pub async fn clear_queueing(&self, link: &Link) -> Result<()> {
        let mut message = TcMessage::with_index(index_of(link));
        message.header.parent = TcHandle::ROOT;
        let operation = || format!("remove the queueing discipline of interface {}", link.name);
        let deleted = self.change(operation, RouteNetlinkMessage::DelQueueDiscipline(message), Mode::Plain);
        match deleted.await {
            // That of the kind itself cannot be removed (tc_get_qdisc, net/sched/sch_api.c).
            Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::EINVAL | Errno::ENODEV)) => {
                Ok(())
            }
            result => result,
        }
    }

    /// Packets that the interface's root queueing discipline has dropped.
    pub async fn queue_drops(&self, link: &Link) -> Result<u64> {
        let drops = |attribute: &TcAttribute| match attribute {
            TcAttribute::Stats2(stats) => stats.iter().find_map(|stat| match stat {
                TcStats2::Queue(queue) => Some(u64::from(queue.drops)),
                _ => None,
            }),
            _ => None,
        };
        let root = self.root_queueing(link).await?;
        Ok(root.and_then(|attributes| attributes.iter().find_map(drops)).unwrap_or_default())
    }

    /// Name of the interface's root queueing discipline; "noqueue" when it has none.
    pub async fn queueing(&self, link: &Link) -> Result<String> {
        let kind = |attribute: TcAttribute| match attribute {
            TcAttribute::Kind(kind) => Some(kind),
            _ => None,
        };
        let root = self.root_queueing(link).await?;
        Ok(root
            .and_then(|attributes| attributes.into_iter().find_map(kind))
            .unwrap_or_else(|| "noqueue".to_owned()))
    }

    async fn root_queueing(&self, link: &Link) -> Result<Option<Vec<TcAttribute>>> {
        let operation = || format!("read the queueing discipline of interface {}", link.name);
        let request = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::with_index(index_of(link)));
        let answers = self.list(operation, request).await?;
        Ok(answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewQueueDiscipline(message)
                if message.header.index == index_of(link) && message.header.parent == TcHandle::ROOT =>
            {
                Some(message.attributes)
            }
            _ => None,
        }))
    }

    async fn replace_qdisc(&self, link: &Link, kind: &str) -> Result<()> {
        let mut message = TcMessage::with_index(index_of(link));
        message.header.parent = TcHandle::ROOT;
        message.attributes.push(TcAttribute::Kind(kind.to_owned()));
        let operation = || format!("put queueing discipline {kind} on interface {}", link.name);
        self.change(operation, RouteNetlinkMessage::NewQueueDiscipline(message), Mode::Replace).await
    }
}

/// Traffic control numbers interfaces with a signed integer (struct tcmsg); the kernel's indexes fit it.
fn index_of(link: &Link) -> i32 {
    i32::try_from(link.index).unwrap_or(i32::MAX)
}
