//! Steps as they happen, on standard error: one line that is rewritten on a terminal, a line each elsewhere.

use std::io::{IsTerminal, Write};

use anyhow::Result;
use heddle_netlab::{Interrupt, Observer, Step};

/// Shows the steps of a lab, and heeds Ctrl-C.
pub(crate) struct Progress {
    interrupt: Interrupt,
    rewrite: bool,
}

impl Progress {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { interrupt: Interrupt::catch()?, rewrite: std::io::stderr().is_terminal() })
    }

    pub(crate) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Clears the line that was shown last.
    pub(crate) fn done(&self) {
        if self.rewrite {
            eprint!("\r\x1b[K");
        }
    }
}

impl Observer for Progress {
    fn step(&mut self, step: Step) {
        if self.rewrite {
            eprint!("\r\x1b[K{step} …");
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{step}");
        }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupt.is_set()
    }
}
