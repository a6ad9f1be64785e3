//! DEL: take away whatever ADD made, however much of it is left ([`Detach`] has the order, and what stands in its way).
//!
//! The pod's namespace is not needed, and may be gone: every name is derived from the attachment, and the host side takes
//! the pod's side with it. An interface in the pod that has no such host side is not ours, whatever its name.

use std::ffi::OsStr;

use rscni_types::types::Cmd;

use super::detach::Detach;
use crate::attachment::Attachment;
use crate::config::Config;
use crate::error::{CniError, Result};

/// Detaches; all failures come back as one error.
pub(crate) async fn run(config: &Config, attachment: &Attachment, path: &OsStr) -> Result<()> {
    let mut detach = Detach::new(config, path)?;
    let _presence = detach.state.join_if_present()?;
    let delegate = detach.delegate();
    let delete_addresses = || delegate?.map_or(Ok(()), |delegate| delegate.call(Cmd::Del));
    let failures = detach.run(attachment, delete_addresses).await;
    CniError::all(failures).map_or(Ok(()), Err)
}
