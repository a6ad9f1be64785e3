//! DEL: take away whatever ADD made, however much of it is left.
//!
//! The order is the reverse of ADD's, so that an address is free only when nobody uses it any more. A switch that is down
//! is no obstacle: it forgets endpoints whose interface is gone when it comes back. One that answers with an error, or not
//! at all, is told of; everything else is cleaned up first all the same.
//!
//! The pod's namespace is not needed, and may be gone: every name is derived from the attachment, and the host side takes
//! the pod's side with it. An interface in the pod that has no such host side is not ours, whatever its name.

use heddle_netdev::Netlink;

use crate::attachment::Attachment;
use crate::config::Config;
use crate::error::{CniError, Result};
use crate::ipam::Ipam;
use crate::switch::{PATIENCE, Switch, SwitchError};

/// Detaches; all failures come back as one error.
pub(crate) async fn run(config: &Config, attachment: &Attachment) -> Result<()> {
    let steps = [
        forget_endpoint(config, attachment).await,
        delete_interfaces(attachment).await,
        Ipam::new(&config.state_dir).release(&attachment.owner()).map(drop).map_err(CniError::from),
    ];
    let failures = steps.into_iter().filter_map(Result::err).collect();
    CniError::all(failures).map_or(Ok(()), Err)
}

async fn forget_endpoint(config: &Config, attachment: &Attachment) -> Result<()> {
    match Switch::connect(&config.socket, PATIENCE).await {
        Ok(mut switch) => Ok(switch.remove_endpoint(attachment.id()).await?),
        Err(SwitchError::Down(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn delete_interfaces(attachment: &Attachment) -> Result<()> {
    Netlink::open()?.delete_link(&attachment.host_interface()).await?;
    Ok(())
}
