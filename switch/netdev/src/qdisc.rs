//! Queueing disciplines: what lets a sender wait instead of drop when a device's ring is full.

use nix::errno::Errno;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use crate::error::Result;
use crate::link::Link;
use crate::netlink::{Mode, Netlink};

/// In the order of preference: fair queueing with a delay bound (RFC 8290), then a plain queue.
const PREFERRED: [&str; 2] = ["fq_codel", "pfifo"];

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

    /// Name of the interface's root queueing discipline; "noqueue" when it has none.
    pub async fn queueing(&self, link: &Link) -> Result<String> {
        let operation = || format!("read the queueing discipline of interface {}", link.name);
        let request = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::with_index(index_of(link)));
        let answers = self.list(operation, request).await?;
        let root = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewQueueDiscipline(message)
                if message.header.index == index_of(link) && message.header.parent == TcHandle::ROOT =>
            {
                message.attributes.into_iter().find_map(|attribute| match attribute {
                    TcAttribute::Kind(kind) => Some(kind),
                    _ => None,
                })
            }
            _ => None,
        });
        Ok(root.unwrap_or_else(|| "noqueue".to_owned()))
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
