//! The report as one page that needs nothing else.

use std::fmt::Write;

use super::Report;
use super::rows::Row;
use super::svg::{Bar, Line, bars, curves, escape};
use super::table::{figure, verdict};
use crate::args::Placement;
use crate::system::metric::{Better, Metric};
use crate::system::scenario::Scenario;

const STYLE: &str = include_str!("style.css");

/// The share that curves are drawn up to: what is beyond is rare, and would take most of the scale.
const CURVE_ENDS: f64 = 0.999;

/// How to read it, whatever it says.
const INTRODUCTION: &str = "\
<p>Every number here comes from one run on one machine, where all systems took turns: in each round, every scenario is loaded for a \
moment on one system after the other, each round beginning with another one. Machines are shared and change their speed, so \
<b>only ratios of the same run mean anything</b>: each is the median, over the rounds, of a system's number divided by the \
baseline's of the same round, taken within seconds of it. Bars show medians, the thin lines reach from the least to the most \
that was measured.</p>\
<p>Heddle runs as in a cluster: pods attached by its CNI plugin, policy compiled by its agent, a NetworkPolicy on every pod that \
allows what is measured and nothing else (which is tried before measuring). Its peers enforce no policy. The baseline on one node is \
the CNI reference plugin <i>bridge</i>; across nodes it is the same with a kernel vxlan device, as Flannel sets it up. \
Nodes are network namespaces, the wire between them is a bridge that veth pairs lead to, with checksum and segmentation offload \
switched off, the same for everybody.</p>";

pub(super) fn page(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Heddle and its peers, {started}</title>\n<style>{STYLE}</style></head><body>\n\
         <h1>Heddle and its peers</h1>\n<p class=\"faint\">{started}, {rounds} rounds, {slice} ms a load{quick}</p>\n{INTRODUCTION}\n",
        started = escape(&report.facts.started),
        rounds = report.rounds,
        slice = report.slice_milliseconds,
        quick = if report.quick { ", a quick run: few and short loads, so wide spreads" } else { "" },
    );
    targets(&mut page, report);
    machine(&mut page, report);
    failures(&mut page, report);
    for scenario in scenarios(report) {
        chapter(&mut page, report, scenario);
    }
    page + "</body></html>\n"
}

fn scenarios(report: &Report) -> Vec<Scenario> {
    // Rows are sorted by them.
    let mut scenarios: Vec<_> = report.rows.iter().map(|row| row.scenario).collect();
    scenarios.dedup();
    scenarios
}

fn targets(page: &mut String, report: &Report) {
    page.push_str(
        "<h2>Targets</h2>\n<div class=\"scroll\"><table><tr><th>target</th><th class=\"n\">wanted</th>\
         <th class=\"n\">measured</th><th class=\"n\">from … to</th><th>outcome</th></tr>\n",
    );
    for outcome in &report.targets {
        let class = match outcome.met {
            Some(true) => "met",
            Some(false) => "missed",
            None => "faint",
        };
        let spread = outcome.min.zip(outcome.max);
        let spread =
            spread.map(|(min, max)| format!("{} … {}", figure(min), figure(max))).unwrap_or_default();
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{spread}</td><td class=\"{class}\">{}</td></tr>",
            escape(&outcome.target),
            escape(&outcome.wanted),
            outcome.value.map(figure).unwrap_or_default(),
            verdict(outcome)
        );
    }
    page.push_str("</table></div>\n");
}

fn machine(page: &mut String, report: &Report) {
    let machine = &report.facts.machine;
    let mut facts = vec![
        ("processor".to_owned(), format!("{}, {} cores", machine.processor, machine.cores)),
        ("memory".to_owned(), format!("{} MiB", machine.memory_mib)),
        ("kernel".to_owned(), machine.kernel.clone()),
        (
            "bridges and netfilter".to_owned(),
            format!("bridge-nf-call-iptables {}; no rules are set", machine.bridge_netfilter),
        ),
    ];
    facts.push((
        "busy with other things".to_owned(),
        format!("load average {:.1} when the run began", report.facts.load_before),
    ));
    let placement = match report.placement {
        Placement::OneCore => "both ends on the first core",
        Placement::TwoCores => "the client on the first core, the server on the second",
        Placement::Free => "wherever the scheduler put the ends",
    };
    facts.push(("placement of requests and connections".to_owned(), placement.to_owned()));
    if let Some(speed) = report.speed {
        let spread = (speed.max / speed.min - 1.0) * 100.0;
        facts.push((
            "changes of speed".to_owned(),
            format!(
                "{spread:.0} % between the slowest and the quickest round, by a fixed computation before each"
            ),
        ));
    }
    if let Some(stolen) = report.stolen_percent {
        facts.push(("stolen by the hypervisor".to_owned(), format!("{stolen:.1} % of the time")));
    }
    facts.extend(report.facts.versions.iter().map(|(name, version)| ((*name).to_owned(), version.clone())));
    for (system, said) in &report.facts.systems {
        facts.extend(said.iter().map(|fact| (system.to_string(), fact.clone())));
    }
    page.push_str("<h2>Machine and versions</h2>\n<table>\n");
    for (name, value) in facts {
        let _ = writeln!(page, "<tr><th>{}</th><td>{}</td></tr>", escape(&name), escape(&value));
    }
    page.push_str("</table>\n");
}

fn failures(page: &mut String, report: &Report) {
    if report.failures.is_empty() {
        return;
    }
    page.push_str("<h2>Loads that failed</h2>\n<ul>\n");
    for failure in &report.failures {
        let (round, title) = (failure.round + 1, failure.scenario.title());
        let _ =
            writeln!(page, "<li>round {round}, {title}, {}: {}</li>", failure.system, escape(&failure.error));
    }
    page.push_str("</ul>\n");
}

fn chapter(page: &mut String, report: &Report, scenario: Scenario) {
    let _ = writeln!(page, "<h2 id=\"{scenario}\">{}</h2>", escape(&capitalised(&scenario.title())));
    let rows: Vec<&Row> = report.rows.iter().filter(|row| row.scenario == scenario).collect();
    let mut metrics: Vec<Metric> = rows.iter().map(|row| row.metric).collect();
    metrics.sort_unstable();
    metrics.dedup();
    for metric in metrics {
        let about = metric.about();
        let direction = if about.better == Better::Higher { "higher is better" } else { "lower is better" };
        let unit = if about.unit.is_empty() { String::new() } else { format!("{}, ", about.unit) };
        let _ = writeln!(
            page,
            "<h3>{} <span class=\"faint\">({unit}{direction})</span></h3>\n<p class=\"meaning\">{}</p>",
            escape(&capitalised(about.title)),
            escape(about.meaning)
        );
        let of_metric: Vec<Bar> =
            rows.iter().filter(|row| row.metric == metric).map(|row| bar(row)).collect();
        page.push_str(&bars(&format!("{}, {}", scenario.title(), about.title), &of_metric));
    }
    let lines = report.latencies.iter().filter(|curve| curve.scenario == scenario);
    let lines: Vec<Line> = lines
        .map(|curve| Line {
            label: curve.system.to_string(),
            class: curve.system.key(),
            points: curve.points.iter().copied().filter(|(_, share)| *share <= CURVE_ENDS).collect(),
        })
        .collect();
    if !lines.is_empty() {
        page.push_str(
            "<h3>All round trips</h3>\n<p class=\"meaning\">What share of the requests was answered within the time below, up to \
             99.9 %; all rounds together, so the machine's changes of speed are in it. Further left is better.</p>\n",
        );
        page.push_str(&curves(&format!("{}, all round trips", scenario.title()), "µs", &lines));
    }
}

fn bar(row: &Row) -> Bar {
    let note = match row.ratio_to_baseline {
        Some(ratio) => format!("{ratio:.2}× the baseline"),
        None if row.baseline == Some(row.system) => "baseline".to_owned(),
        None => String::new(),
    };
    Bar {
        label: row.system.to_string(),
        class: row.system.key(),
        value: row.value,
        min: row.min,
        max: row.max,
        note,
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
