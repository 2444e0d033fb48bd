//! A report of one or several runs: one HTML file without references to others, to look at in a browser.
//!
//! | file | content |
//! | --- | --- |
//! | `run.rs`, `log.rs` | reading a run folder, also while a training writes to it |
//! | `curves.rs` | curves over any number of steps in bounded memory |
//! | `scale.rs`, `chart.rs` | axes and charts: SVG inside HTML |
//! | `page.rs`, `sections.rs`, `details.rs`, `html.rs` | the page |
//! | `live.rs` | the page that a training keeps current |

mod chart;
mod curves;
mod details;
mod html;
mod live;
mod log;
mod page;
mod run;
mod scale;
mod sections;

pub use live::LiveReport;
pub use page::{PAGE_START, page};
pub use run::Run;

/// Name of the report in a run folder.
pub const REPORT_FILE: &str = "report.html";
