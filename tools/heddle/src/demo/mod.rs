//! `heddle demo`: Heddle's main job, shown and checked. Raises two nodes with two pods each, sends traffic every way there
//! is, tells what it saw, and leaves nothing behind. Any check that fails makes the whole fail.

mod checks;
mod policy;
mod reachability;
mod report;

use std::process::ExitCode;

use anyhow::Result;
use heddle_netlab::{Lab, LabSpec};

use crate::commands::drops_table;
use crate::output::print;
use crate::progress::Progress;
use report::Report;

pub(crate) fn run() -> Result<ExitCode> {
    let mut progress = Progress::new()?;
    let mut report = Report::default();
    print("Heddle demo: two nodes, two pods each, judged by the switch, forwarded by its flow cache\n")?;

    let mut raised = None;
    report.check("lab", "two nodes and four pods up, attached by heddle-cni", || {
        let lab = Lab::up(&LabSpec::new(2, 2), &mut progress);
        progress.done();
        raised = Some(lab?);
        Ok("each node with its own heddle-switch".to_owned())
    })?;
    if let Some(lab) = raised {
        // Checks go on past a failed one; an interrupt ends them, and dropping the lab takes it down.
        send_traffic(&lab, &mut report, &progress)?;
        print(format!("\nWhat the switches dropped meanwhile:\n\n{}\n", drops(&lab)?))?;
        report.check("down", "everything taken down again", || {
            let result = lab.down(&mut progress);
            progress.done();
            result.map(|()| "no namespace, process, mount or file is left".to_owned())
        })?;
    }
    print(format!("\n{}", report.summary()))?;
    Ok(if report.all_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn send_traffic(lab: &Lab, report: &mut Report, progress: &Progress) -> Result<()> {
    let interrupt = progress.interrupt();
    let matrix = reachability::measure(lab);
    interrupt.check()?;
    report.check("reach", "ping from everyone to everyone, IPv4 and IPv6", || {
        matrix.and_then(reachability::Matrix::verdict)
    })?;
    for (key, title, check) in checks::ALL {
        interrupt.check()?;
        report.check(key, title, || check(lab))?;
    }
    interrupt.check()
}

fn drops(lab: &Lab) -> Result<String> {
    let nodes = lab.state().nodes;
    let drops = nodes.iter().map(|node| {
        let drops = lab.node(&node.name.to_string())?.control()?.drops()?;
        Ok((node.name.to_string(), drops))
    });
    Ok(drops_table(drops.collect::<Result<_>>()?, false))
}
