//! Putting the plugin where the container runtime finds it, and taking it away again.
//!
//! The configuration is what makes a runtime call the plugin, so it comes last and goes first; between the two, and
//! should we be killed, nobody is called who is not there.

mod cleanup;
mod conflist;
mod place;
mod pods;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::args::{InstallOptions, RuntimePlaces, TargetOptions, UninstallOptions};

pub(crate) use cleanup::clean_up;

use conflist::PLUGIN;
use place::Placed;
use report::Report;

impl RuntimePlaces {
    fn conflist(&self) -> PathBuf {
        self.conf_dir.join(&self.conf_name)
    }

    fn plugin(&self) -> PathBuf {
        self.bin_dir.join(PLUGIN)
    }
}

/// Installs, or brings what is installed up to date.
pub(crate) fn install(target: &TargetOptions, options: &InstallOptions) -> Result<()> {
    let mut report = Report::new(options.format.output);
    let places = &options.places;
    let socket = target.socket.as_deref();
    for (what, path) in [("--socket", socket), ("--state-dir", options.state_dir.as_deref())] {
        if path.is_some_and(Path::is_relative) {
            bail!("{what}: write an absolute path; the plugin runs in a directory of the runtime's choice");
        }
    }
    let plugin = source(options.plugin.as_deref())?;
    let conflist = places.conflist();
    if std::fs::read(&conflist).is_ok_and(|there| !conflist::is_ours(&there)) {
        bail!("{} is not Heddle's: remove it, or choose another --conf-name", conflist.display());
    }
    let outcome = place::place(&places.plugin(), &plugin, 0o755)
        .context("the plugin could not be installed (another directory: --bin-dir)")?;
    report.file(word(outcome), places.plugin())?;
    for missing in options.chain.iter().filter(|name| !places.bin_dir.join(name).is_file()) {
        report.warn(format!(
            "there is no {missing} in {}: pods do not start unless the runtime has another directory with it (Debian: containernetworking-plugins)",
            places.bin_dir.display()
        ));
    }
    let outcome = place::place(&conflist, conflist::text(options, socket).as_bytes(), 0o644)
        .context("the configuration could not be installed (another directory: --conf-dir)")?;
    report.file(word(outcome), &conflist)?;
    warn_of_others(places, &mut report)?;
    report.finish()
}

/// Takes the configuration away, then the plugin, unless there are pods that need it to go.
pub(crate) fn uninstall(options: &UninstallOptions) -> Result<()> {
    let mut report = Report::new(options.format.output);
    let done = take_away(&options.places, options.force, &mut report);
    report.finish()?;
    done
}

fn take_away(places: &RuntimePlaces, force: bool, report: &mut Report) -> Result<()> {
    let conflist = places.conflist();
    if std::fs::read(&conflist).is_ok_and(|there| !conflist::is_ours(&there)) {
        bail!("{} is not Heddle's and stays: name the right one with --conf-name", conflist.display());
    }
    let was_there = place::remove(&conflist)?;
    report.file(if was_there { "removed" } else { "absent" }, &conflist)?;
    if places.conf_dir.is_dir() {
        for other in conflist::others(&places.conf_dir, &places.conf_name)? {
            if other.ours {
                report.warn(format!(
                    "{} calls heddle-cni, too: remove it with --conf-name {}",
                    places.conf_dir.join(&other.name).display(),
                    other.name
                ));
            }
        }
    }
    let pods = pods::attached()?;
    if !pods.is_empty() && !force {
        bail!(
            "{} stays: {} ({}) are attached, and the runtime calls it when they go; stop them and call this again, or use --force",
            places.plugin().display(),
            if pods.len() == 1 { "one pod".to_owned() } else { format!("{} pods", pods.len()) },
            pods.join(", ")
        );
    }
    let was_there = place::remove(&places.plugin())?;
    report.file(if was_there { "removed" } else { "absent" }, places.plugin())
}

fn word(placed: Placed) -> &'static str {
    match placed {
        Placed::Created => "created",
        Placed::Replaced => "replaced",
        Placed::Unchanged => "unchanged",
    }
}

/// The plugin's program.
fn source(chosen: Option<&Path>) -> Result<Vec<u8>> {
    let path = match chosen {
        Some(path) => path.to_owned(),
        None => std::env::current_exe().context("cannot tell where this program is")?.with_file_name(PLUGIN),
    };
    let program = std::fs::read(&path).with_context(|| {
        format!("cannot read the plugin {}; say where it is with --plugin", path.display())
    })?;
    // A script would do, and so would any program; an empty file, or a page that says "not found", would not.
    if program.starts_with(b"\x7fELF") || program.starts_with(b"#!") {
        Ok(program)
    } else {
        bail!("{} is no program; say where heddle-cni is with --plugin", path.display())
    }
}

/// A runtime takes the first configuration by name.
fn warn_of_others(places: &RuntimePlaces, report: &mut Report) -> Result<()> {
    for other in conflist::others(&places.conf_dir, &places.conf_name)? {
        let path = places.conf_dir.join(&other.name);
        if other.first {
            report.warn(format!(
                "{} sorts before {}, so the runtime takes that one: remove it, or install with another --conf-name",
                path.display(),
                places.conf_name
            ));
        } else if other.ours {
            report.warn(format!(
                "{} calls heddle-cni, too; it may be from an earlier installation",
                path.display()
            ));
        }
    }
    Ok(())
}
