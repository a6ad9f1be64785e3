//! Checks as they come, and what they amount to.

use std::time::Instant;

use anyhow::Result;

use crate::output::{mark, print, table};

/// What came of the checks so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    outcomes: Vec<Outcome>,
}

#[derive(Debug)]
struct Outcome {
    key: &'static str,
    title: &'static str,
    good: bool,
    found: String,
}

impl Report {
    /// Runs a check, shows what it found, and keeps it. Only printing fails.
    pub(super) fn check(
        &mut self,
        key: &'static str,
        title: &'static str,
        check: impl FnOnce() -> Result<String>,
    ) -> Result<()> {
        let start = Instant::now();
        let result = check();
        let good = result.is_ok();
        let found = result.unwrap_or_else(|error| format!("{error:#}"));
        print(format!("{} {title} ({:.1} s)", mark(good), start.elapsed().as_secs_f64()))?;
        for line in found.lines() {
            print(format!("    {line}"))?;
        }
        self.outcomes.push(Outcome { key, title, good, found });
        Ok(())
    }

    /// True when there were checks and all were good.
    pub(super) fn all_good(&self) -> bool {
        !self.outcomes.is_empty() && self.outcomes.iter().all(|outcome| outcome.good)
    }

    /// The checks in a table, and the verdict.
    pub(super) fn summary(&self) -> String {
        let mut table = table(&["", "check", "what was tried"]);
        for outcome in &self.outcomes {
            table.add_row([if outcome.good { "✓" } else { "✗" }, outcome.key, outcome.title]);
        }
        let failed: Vec<_> = self.outcomes.iter().filter(|outcome| !outcome.good).collect();
        let verdict = match failed.as_slice() {
            [] => "Everything worked.".to_owned(),
            failed => {
                let list = failed.iter().map(|outcome| {
                    format!("  {}: {}", outcome.key, outcome.found.lines().next().unwrap_or("failed"))
                });
                format!("Not everything worked:\n{}", list.collect::<Vec<_>>().join("\n"))
            }
        };
        format!("{table}\n\n{verdict}")
    }
}

#[cfg(test)]
mod tests {
    //! One failure fails the whole, and is named.
    use anyhow::bail;

    use super::*;

    #[test]
    fn nothing_checked_is_not_good() {
        assert!(!Report::default().all_good());
    }

    #[test]
    fn a_failure_is_named_in_the_end() {
        let mut report = Report::default();
        report.check("one", "first", || Ok("fine".to_owned())).unwrap();
        assert!(report.all_good());
        report.check("two", "second", || bail!("cable cut\nlong story")).unwrap();
        report.check("three", "third", || Ok(String::new())).unwrap();
        assert!(!report.all_good());
        assert!(
            report.summary().ends_with("Not everything worked:\n  two: cable cut"),
            "{}",
            report.summary()
        );
    }
}
