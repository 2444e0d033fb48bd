//! Reports the changes that a resumption makes, and refuses one with nothing left to train.

use std::path::Path;

use toml::Table;

use super::{TrainState, epochs::Epochs, trainer::schedule};
use crate::{
    Error, Result,
    config::{ConfigFile, TrainConfig, TrainOptions, find_config, resolve_over},
    record::is_evaluated,
};

/// Options whose change does not change the training, or is reported elsewhere.
const UNSAID: [&str; 5] = ["init", "out", "ranks", "started-in", "threads"];

/// The configuration of the run that contains the checkpoint or run folder `path`, if there is one.
pub(super) fn saved_config(path: &Path) -> Result<Option<TrainConfig>> {
    let file = find_config(path).map(ConfigFile::read).transpose()?;
    file.map(|file| resolve_over(&TrainOptions::default(), &[&file])).transpose()
}

/// A line for each option that a resumption changes, and for a jump of the learning rate at the next step.
pub(super) fn changes(
    old: &TrainConfig,
    (new, epochs): (&TrainConfig, Epochs),
    state: &TrainState,
) -> Result<Vec<String>> {
    let table = |config| Table::try_from(config).map_err(|e| Error::Failure(e.to_string()));
    let (before, now): (Table, Table) = (table(old)?, table(new)?);
    let mut options: Vec<_> = before.keys().chain(now.keys()).collect();
    options.sort();
    options.dedup();
    let shown = |table: &Table, option| table.get(option).map_or("unset".to_owned(), ToString::to_string);
    let mut lines: Vec<_> = options
        .into_iter()
        .filter(|option| !UNSAID.contains(&option.as_str()) && before.get(*option) != now.get(*option))
        .map(|option| format!("--{option}: {} → {}", shown(&before, option), shown(&now, option)))
        .collect();
    let was = state.place.map_or_else(|| Epochs::new(old), |place| place.epochs(state.step));
    let [had, has] = [(old, was), (new, epochs)].map(|(c, epochs)| schedule(c, epochs).rate(state.step));
    // Positions in an epoch are rounded to steps.
    if (had - has).abs() > 0.01 * had.max(has) {
        lines.push(format!("learning rate of step {}: {had:.3e} → {has:.3e}", state.step + 1));
    }
    Ok(lines)
}

/// Checks that a training of `total` steps is not finished after `step` steps. After its last step it may still lack
/// the final evaluation in the run folder `out`.
///
/// # Errors
/// [`Error::Usage`] with advice.
pub(super) fn check_unfinished(out: &Path, step: u64, total: u64) -> Result<()> {
    let what = match total {
        _ if step > total => format!("has trained {step} steps, and a training of {total} is asked for"),
        _ if step == total && is_evaluated(out, step) => format!("has finished its {step} steps"),
        _ => return Ok(()),
    };
    Err(Error::Usage(format!("--resume: the run {} {what}; give more --steps or --epochs", out.display())))
}
