//! From what a user chose to what the data is opened with.

use super::{FRAMES_OUT, Layout, Rule, TrainConfig};
use crate::Result;
use crate::data::{self, DataSource, DataSpec};

impl From<Layout> for data::Layout {
    fn from(layout: Layout) -> Self {
        match layout {
            Layout::Tnhw => Self::Tnhw,
            Layout::Nthw => Self::Nthw,
            Layout::Nthwc => Self::Nthwc,
            Layout::Ntchw => Self::Ntchw,
        }
    }
}

impl From<Rule> for data::Rule {
    fn from(rule: Rule) -> Self {
        match rule {
            Rule::Standard => Self::Standard,
            Rule::SsmVideo => Self::SsmVideo,
        }
    }
}

impl TrainConfig {
    /// What [`Dataset::open`](data::Dataset::open) takes for this training's data: sequences of `frames_in` +
    /// [`FRAMES_OUT`] frames.
    ///
    /// # Errors
    /// As [`DataSource::from_name`].
    pub fn data_spec(&self) -> Result<DataSpec> {
        Ok(DataSpec {
            source: DataSource::from_name(&self.data, self.layout.into())?,
            rule: self.rule.into(),
            digits: self.digits,
            canvas: self.canvas,
            digit_size: self.digit_size,
            frames: self.frames_in + FRAMES_OUT,
            seed: self.seed,
            sequences: self.sequences as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn words_mean_the_same_on_both_sides() {
        for &layout in Layout::value_variants() {
            assert_eq!(data::Layout::from(layout).to_string(), layout.to_string());
        }
        for &rule in Rule::value_variants() {
            assert_eq!(data::Rule::from(rule).to_string(), rule.to_string());
        }
        let spec = TrainConfig::preset("nano").unwrap().data_spec().unwrap();
        assert_eq!(spec, DataSpec { canvas: 32, digit_size: 14, sequences: 4000, ..DataSpec::default() });
    }
}
