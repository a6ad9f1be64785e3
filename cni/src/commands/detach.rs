//! Taking an attachment away, however much of it is left: what DEL does for one and GC for many.
//!
//! The order is the reverse of ADD's, so that an address is free only when nobody uses it any more: as long as the switch or the kernel
//! holds on to the endpoint or its interface, the address stays taken, and the record tells the next DEL or GC what is left.
//!
//! A switch that is down is no obstacle: it forgets endpoints whose interface is gone when it comes back.

use std::ffi::OsStr;

use heddle_netdev::Netlink;

use crate::attachment::Attachment;
use crate::config::Config;
use crate::delegate::Delegate;
use crate::error::{CniError, Result};
use crate::state::State;
use crate::switch::{PATIENCE, Switch, SwitchError};

/// How it is with the switch.
enum Line {
    NotTried,
    Up(Box<Switch>),
    Down,
    /// It does not answer, or not now: asking it about the next attachment would take as long again.
    Useless(CniError),
}

/// Who takes attachments away.
pub(crate) struct Detach<'a> {
    config: &'a Config,
    path: &'a OsStr,
    pub(crate) state: State,
    host: Netlink,
    line: Line,
}

impl<'a> Detach<'a> {
    /// Changes nothing yet. `path` is where plugins are.
    pub(crate) fn new(config: &'a Config, path: &'a OsStr) -> Result<Self> {
        let state = State::new(&config.state_dir, config.address_rest);
        Ok(Self { config, path, state, host: Netlink::open()?, line: Line::NotTried })
    }

    /// Takes one away, and returns everything that went wrong. `delete_addresses` has an IPAM plugin take back what it gave.
    pub(crate) async fn run(
        &mut self,
        attachment: &Attachment,
        delete_addresses: impl FnOnce() -> Result<()>,
    ) -> Vec<CniError> {
        let endpoint = self.forget_endpoint(attachment).await;
        let interface = self.host.delete_link(&attachment.host_interface()).await;
        let mut failures: Vec<CniError> = endpoint.err().into_iter().collect();
        failures.extend(interface.err().map(CniError::from));
        if !failures.is_empty() {
            return failures;
        }
        failures.extend(delete_addresses().err());
        if failures.is_empty() {
            failures.extend(self.state.release(attachment).err().map(CniError::from));
        }
        failures
    }

    /// The IPAM plugin of the configuration, if that names one.
    pub(crate) fn delegate(&self) -> Result<Option<Delegate<'a>>> {
        let name = self.config.ipam.as_deref();
        name.map(|name| Delegate::find(name, self.path, &self.config.input)).transpose()
    }

    async fn forget_endpoint(&mut self, attachment: &Attachment) -> Result<()> {
        if let Line::NotTried = self.line {
            self.line = match Switch::connect(&self.config.socket, PATIENCE).await {
                Ok(switch) => Line::Up(Box::new(switch)),
                Err(SwitchError::Down(_)) => Line::Down,
                Err(error) => Line::Useless(error.into()),
            };
        }
        let switch = match &mut self.line {
            Line::Up(switch) => switch,
            Line::Useless(error) => return Err(error.clone()),
            Line::Down | Line::NotTried => return Ok(()),
        };
        switch.renew();
        match switch.remove_endpoint(attachment.id()).await {
            Ok(()) => Ok(()),
            Err(error) => {
                let refused = matches!(error, SwitchError::Refused { .. });
                let error = CniError::from(error);
                if !refused {
                    self.line = Line::Useless(error.clone());
                }
                Err(error)
            }
        }
    }
}
