//! STATUS: could this plugin serve an ADD now? Runtimes ask every few seconds, so nothing is written and nothing locked.

use std::ffi::OsStr;

use rscni_types::types::Cmd;

use crate::config::Config;
use crate::delegate::Delegate;
use crate::error::{CniError, Result, code};
use crate::node::Node;
use crate::state::State;
use crate::switch::{PATIENCE, Switch};

/// Ready, or why not: 51 when the pods that are there are cut off too, since every new connection passes the switch (and in
/// direct mode every packet); 50 when only new ones cannot be attached.
pub(crate) async fn run(config: &Config, path: &OsStr) -> Result<()> {
    let as_code = |code: u32| move |error: CniError| CniError::new(code, error.details);
    let node = describe(config).await.map_err(as_code(code::UNAVAILABLE_LIMITED))?;
    let node = Node::try_from(node).map_err(as_code(code::UNAVAILABLE))?;
    addresses(config, path, &node).map_err(as_code(code::UNAVAILABLE))
}

async fn describe(config: &Config) -> Result<heddle_api::Node> {
    let mut switch = Switch::connect(&config.socket, PATIENCE).await?;
    Ok(switch.describe().await?)
}

fn addresses(config: &Config, path: &OsStr, node: &Node) -> Result<()> {
    match &config.ipam {
        Some(name) => Delegate::find(name, path, &config.input)?.call(Cmd::Status),
        None => {
            Ok(State::new(&config.state_dir, config.address_rest).check_free(&node.ranges, &node.gateways)?)
        }
    }
}
