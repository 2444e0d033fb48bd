//! `report`: one HTML file about runs, to look at in a browser.

use std::path::PathBuf;

use clap::Args;

use super::Ui;
use super::files::{self, Output};
use crate::report::{REPORT_FILE, Run, page};
use crate::{Error, Result};

/// Most runs of a report.
const MOST_RUNS: usize = 64;

/// Command-line arguments of `report`.
#[derive(Args, Clone, Debug)]
pub struct ReportArgs {
    /// Run folders; the curves of several are drawn over each other. A run may still be training
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// File to write; an older report there is replaced, any other file is not [default: report.html, of one run in its
    /// folder]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Examples for the help.
pub const EXAMPLES: &str = "\
Examples:
  ssmv-raw report runs/tiny                      writes runs/tiny/report.html
  ssmv-raw report runs/a runs/b --out both.html
  ssmv-raw train --out runs/tiny --report        keeps it current while it trains";

/// Writes the report.
pub fn run(args: &ReportArgs, ui: &Ui) -> Result<()> {
    if args.runs.len() > MOST_RUNS {
        return Err(Error::Usage(format!("{} runs were given; a report takes {MOST_RUNS}", args.runs.len())));
    }
    let runs = args.runs.iter().map(|path| Run::open(path)).collect::<Result<Vec<Run>>>()?;
    let out = match (&args.out, runs.as_slice()) {
        (Some(out), _) => out.clone(),
        (None, [run]) => run.folder().join(REPORT_FILE),
        (None, _) => PathBuf::from(REPORT_FILE),
    };
    files::must_be_writable(&out)?;
    if !files::is_stream(&out) {
        files::must_be_replaceable(&out, Output::Page)?;
    }
    ui.write_out(&out, &page(&runs, false))
}
