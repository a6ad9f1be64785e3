//! The report on the terminal.

use anyhow::Result;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::Report;
use super::rows::Row;
use super::targets::Outcome;

const WIDTH: u16 = 120;

pub(crate) fn print(report: &Report) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    for table in [rows(&report.rows), targets(&report.targets)] {
        // The table pads every cell, the last one too.
        for line in table.to_string().lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        writeln!(out)?;
    }
    if !report.failures.is_empty() {
        writeln!(out, "{} loads failed; the report names them", report.failures.len())?;
    }
    Ok(())
}

fn table(heads: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .set_header(heads.iter().map(|head| head.to_uppercase()));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for index in right {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn rows(rows: &[Row]) -> Table {
    let mut table = table(
        &["scenario", "system", "metric", "median", "unit", "min", "max", "to baseline"],
        &[3, 5, 6, 7],
    );
    let mut last = None;
    for row in rows {
        // Named once, where it begins.
        let scenario = if last == Some(row.scenario) { String::new() } else { row.scenario.to_string() };
        last = Some(row.scenario);
        let ratio = row.ratio_to_baseline.map(|ratio| format!("{ratio:.2}×")).unwrap_or_default();
        table.add_row([
            scenario,
            row.system.to_string(),
            row.metric.about().key.to_owned(),
            figure(row.value),
            row.unit.to_owned(),
            figure(row.min),
            figure(row.max),
            ratio,
        ]);
    }
    table
}

fn targets(outcomes: &[Outcome]) -> Table {
    let mut table = table(&["target", "wanted", "measured", "outcome"], &[1, 2]);
    for outcome in outcomes {
        table.add_row([
            outcome.target.clone(),
            outcome.wanted.clone(),
            outcome.value.map(figure).unwrap_or_default(),
            verdict(outcome),
        ]);
    }
    table
}

/// In words.
pub(super) fn verdict(outcome: &Outcome) -> String {
    match (outcome.met, outcome.missed_by_percent) {
        (Some(true), _) => "met".to_owned(),
        (Some(false), Some(by)) if by < 10.0 => format!("missed by {by:.1} %"),
        (Some(false), Some(by)) => format!("missed by {by:.0} %"),
        _ => "not measured".to_owned(),
    }
}

/// A number with about three digits.
pub(super) fn figure(value: f64) -> String {
    let digits = match value.abs() {
        0.0..1.0 => 3,
        1.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    //! Figures have the digits that mean something.
    use super::*;

    #[test]
    fn figures() {
        let said = [0.0, 0.1234, 1.0, 9.876, 12.34, 123.4, 23456.7, -1.5].map(figure);
        assert_eq!(said, ["0.000", "0.123", "1.00", "9.88", "12.3", "123", "23457", "-1.50"]);
    }
}
