//! Printing: tables that fit 100 columns, JSON, and marks in colour where a terminal shows them.

use std::io::{IsTerminal, Write};

use anyhow::Result;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

const WIDTH: u16 = 100;

/// A table with these column heads.
pub(crate) fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .set_header(heads.iter().map(|head| head.to_uppercase()));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// Aligns numbers.
pub(crate) fn align_right(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

pub(crate) fn print(text: impl std::fmt::Display) -> Result<()> {
    let text = text.to_string();
    let mut out = std::io::stdout().lock();
    for line in text.split('\n') {
        // The table pads every cell, the last one too.
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}

/// ✓ or ✗, coloured on a terminal whose user has not said <https://no-color.org>.
pub(crate) fn mark(good: bool) -> &'static str {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    match (good, colour) {
        (true, true) => "\x1b[32m✓\x1b[0m",
        (true, false) => "✓",
        (false, true) => "\x1b[31m✗\x1b[0m",
        (false, false) => "✗",
    }
}

/// Seconds as people say them.
pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// Bytes with a binary unit, three digits at most.
#[allow(clippy::cast_precision_loss, reason = "a figure to look at")]
pub(crate) fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] {
        if value < 999.5 {
            return if unit == "B" || value >= 99.95 {
                format!("{value:.0} {unit}")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.0} EiB")
}

#[cfg(test)]
mod tests {
    //! Figures read well at the borders of their units, and tables stay inside the width.
    use super::*;

    #[test]
    fn durations() {
        let said: Vec<_> = [0, 59, 60, 3599, 3600, 90_000].map(duration).into();
        assert_eq!(said, ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "1 d 1 h"]);
    }

    #[test]
    fn byte_counts() {
        let said: Vec<_> = [0, 999, 1000, 1 << 20, 1023 << 20, u64::MAX].map(bytes).into();
        assert_eq!(said, ["0 B", "999 B", "1.0 KiB", "1.0 MiB", "1.0 GiB", "16 EiB"]);
    }

    #[test]
    fn tables_fit() {
        let mut table = table(&["id", "text"]);
        table.add_row(["x".repeat(64), "a word and another ".repeat(20)]);
        assert!(table.to_string().lines().all(|line| line.chars().count() <= usize::from(WIDTH)));
    }
}
