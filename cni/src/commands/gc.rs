//! GC: free what is of attachments of this network that the runtime does not know any more.
//!
//! Records say of which network an attachment is. They are written first and removed last, so whatever is left of an attachment, its record is
//! there; other networks' attachments are not looked at. An IPAM plugin gets a DEL for each attachment whose addresses it gave,
//! and then its own GC: some have none that does anything.

use std::collections::HashSet;
use std::ffi::OsStr;

use rscni_types::types::Cmd;

use super::detach::Detach;
use crate::config::Config;
use crate::error::{CniError, Result, code};
use crate::state::Record;

/// Goes on past failures, which come back as one error.
pub(crate) async fn run(config: &Config, path: &OsStr) -> Result<()> {
    // An absent list says nothing; to read it as an empty one would take every pod of the network off it.
    let valid = config.valid.as_ref().ok_or_else(|| {
        CniError::new(
            code::CONFIG,
            "cni.dev/valid-attachments is missing, so nothing was freed; the runtime lists there what is to stay, [] for nothing",
        )
    })?;
    let valid: HashSet<_> =
        valid.iter().map(|one| (one.container_id.as_str(), one.ifname.as_str())).collect();
    let mut detach = Detach::new(config, path)?;
    let delegate = detach.delegate();
    let mut failures: Vec<CniError> = delegate.as_ref().err().cloned().into_iter().collect();
    let delegate = delegate.ok().flatten();
    // Nobody makes or unmakes an attachment meanwhile.
    if let Some(_alone) = detach.state.exclude()? {
        let (records, errors) = detach.state.records();
        failures.extend(errors.into_iter().map(CniError::from));
        let stays = |record: &Record| {
            record.network != config.network
                || valid.contains(&(record.container_id.as_str(), record.ifname.as_str()))
        };
        for record in records.iter().filter(|record| !stays(record)) {
            let attachment = record.attachment();
            let delete_addresses = || match (&record.ipam, &delegate) {
                (None, _) => Ok(()),
                (Some(name), Some(delegate)) if Some(name) == config.ipam.as_ref() => {
                    delegate.delete(&attachment)
                }
                (Some(name), _) => Err(other_plugin(name)),
            };
            let errors = detach.run(&attachment, delete_addresses).await;
            failures.extend(errors.into_iter().map(|mut error| {
                error.details = format!("{}: {}", attachment.id(), error.details);
                error
            }));
        }
        failures.extend(detach.state.free_ownerless().err().map(CniError::from));
    }
    failures.extend(delegate.and_then(|delegate| delegate.call(Cmd::Gc).err()));
    CniError::all(failures).map_or(Ok(()), Err)
}

fn other_plugin(name: &str) -> CniError {
    let details = format!(
        "its addresses are from the IPAM plugin {name}, which the configuration does not name; call DEL or GC with one that does"
    );
    CniError::new(code::CONFIG, details)
}
