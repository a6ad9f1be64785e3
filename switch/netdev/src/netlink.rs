//! The conversation with the kernel: one socket, driven on the current tokio runtime.

use std::num::NonZero;

use futures_util::StreamExt;
use nix::errno::Errno;
use rtnetlink::Handle;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
    NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::netns::Netns;

/// A route netlink socket in one network namespace. Must be made, used and dropped inside a tokio runtime with I/O
/// enabled; a current-thread one will do.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
    _driver: Driver,
}

/// The task that moves messages. It ends with the socket's owner, so that a socket never keeps a namespace alive.
#[derive(Debug)]
pub(crate) struct Driver(JoinHandle<()>);

impl Driver {
    pub(crate) fn start(connection: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(connection))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How a request treats what is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Fail when it exists.
    Create,
    /// Put the new one in its place.
    Replace,
    /// Change or delete what exists; for bridge tables, add beside it.
    Plain,
    /// Add one more beside what exists (`bridge fdb append`).
    Append,
}

impl Mode {
    fn flags(self) -> u16 {
        match self {
            Self::Create => NLM_F_CREATE | NLM_F_EXCL,
            Self::Replace => NLM_F_CREATE | NLM_F_REPLACE,
            Self::Plain => 0,
            Self::Append => NLM_F_CREATE | NLM_F_APPEND,
        }
    }
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        let (mut connection, handle, _) =
            rtnetlink::new_connection().map_err(|e| Error::io("open a netlink socket", e))?;
        // Without the closing message, an answer cut short by a dying socket would look like success.
        connection.set_forward_ack(true);
        connection.set_forward_done(true);
        Ok(Self { handle, _driver: Driver::start(connection) })
    }

    /// Opens a socket in another network namespace: a socket stays in the one it was made in.
    pub fn open_in(netns: &Netns) -> Result<Self> {
        netns.open_inside(Self::open)
    }

    /// Sends a request that changes something and waits for the kernel's acknowledgement.
    pub(crate) async fn change(
        &self,
        operation: impl FnOnce() -> String,
        message: RouteNetlinkMessage,
        mode: Mode,
    ) -> Result<()> {
        self.exchange(operation, message, NLM_F_ACK | mode.flags()).await.map(drop)
    }

    /// Asks for one object. `Ok(None)` when the kernel answers that there is none.
    pub(crate) async fn get(
        &self,
        operation: impl FnOnce() -> String,
        message: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>> {
        match self.exchange(operation, message, 0).await {
            Ok(answers) => Ok(answers.into_iter().next()),
            Err(error) if matches!(error.errno(), Some(Errno::ENODEV | Errno::ENOENT)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks for all objects of a kind.
    pub(crate) async fn list(
        &self,
        operation: impl FnOnce() -> String,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        self.exchange(operation, message, NLM_F_DUMP).await
    }

    async fn exchange(
        &self,
        operation: impl FnOnce() -> String,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        let mut handle = self.handle.clone();
        let mut replies = match handle.request(request) {
            Ok(replies) => replies,
            Err(error) => {
                return Err(Error::Exchange { operation: operation(), reason: error.to_string() });
            }
        };
        // A request for one object is answered by it alone; everything else ends with a closing message.
        let mut complete = flags & (NLM_F_ACK | NLM_F_DUMP) == 0;
        let mut answers = Vec::new();
        while let Some(reply) = replies.next().await {
            let errno = match reply.payload {
                NetlinkPayload::InnerMessage(answer) => {
                    answers.push(answer);
                    continue;
                }
                NetlinkPayload::Error(error) => error.code.map_or(0, NonZero::get),
                NetlinkPayload::Done(done) => done.code,
                NetlinkPayload::Overrun(_) => {
                    let reason = "the kernel's answer overran the socket buffer; try again".to_owned();
                    return Err(Error::Exchange { operation: operation(), reason });
                }
                _ => continue,
            };
            if errno != 0 {
                let errno = Errno::from_raw(errno.saturating_abs());
                return Err(Error::Refused { operation: operation(), errno });
            }
            complete = true;
        }
        if !complete {
            let reason = "the netlink socket closed before the kernel's answer; try again".to_owned();
            return Err(Error::Exchange { operation: operation(), reason });
        }
        Ok(answers)
    }
}
