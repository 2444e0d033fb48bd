//! Merges the layers of a configuration and checks the result.

use toml::{Table, Value};

use super::{ConfigFile, DEFAULT_PRESET, PRESETS, TrainConfig, TrainOptions, limits, nearest};
use crate::model::Preset;
use crate::{Error, Result};

/// The configuration of a training: the command line over `file` over the preset's defaults.
///
/// # Errors
/// [`Error::Usage`] for a value outside its [`limits`] and for options that contradict each other. The message names the
/// option, or its file and line, the value, and the values that are allowed.
pub fn resolve(command_line: &TrainOptions, file: Option<&ConfigFile>) -> Result<TrainConfig> {
    resolve_over(command_line, file.as_slice())
}

/// Test sequences in an evaluation on the emulator, where the preset's number would take minutes.
const EVAL_SEQUENCES_ON_EMULATOR: i64 = 16;

/// [`resolve`] with any number of files, each over those before it: a resumed run's own configuration, then
/// the user's file.
pub fn resolve_over(command_line: &TrainOptions, files: &[&ConfigFile]) -> Result<TrainConfig> {
    let mut layers = vec![Layer { table: table(command_line, "the command line")?, file: None }];
    for file in files.iter().rev() {
        layers
            .push(Layer { table: table(&file.options, &file.path.display().to_string())?, file: Some(file) });
    }
    let preset = preset(&layers)?;
    let mut defaults = TrainOptions::defaults(preset);
    if layers.iter().find_map(|layer| layer.table.get("device")?.as_str()) == Some("emulator") {
        defaults.eval_sequences = Some(EVAL_SEQUENCES_ON_EMULATOR);
    }
    layers.push(Layer { table: table(&defaults, "the preset")?, file: None });

    let mut merged = Merged { values: Table::new(), layers };
    merged.merge()?;
    merged.scale_digits();
    merged.check_limits()?;
    merged.check_together(&defaults)?;
    merged.values.try_into().map_err(|e: toml::de::Error| Error::Usage(e.message().to_owned()))
}

/// The options of one source. The first layer is the command line, the last the preset.
struct Layer<'a> {
    table: Table,
    file: Option<&'a ConfigFile>,
}

/// The merged values, and the layers that they are from.
struct Merged<'a> {
    values: Table,
    layers: Vec<Layer<'a>>,
}

fn table(options: &TrainOptions, source: &str) -> Result<Table> {
    Table::try_from(options)
        .map_err(|e| Error::Usage(format!("{source} has a value that does not fit TOML: {e}")))
}

/// Index in [`PRESETS`] of the preset that the highest layer with a preset names.
fn preset(layers: &[Layer]) -> Result<usize> {
    let named = layers.iter().find_map(|layer| Some((layer, layer.table.get("preset")?.as_str()?)));
    let (source, name) = match named {
        Some((layer, name)) => (layer.name("preset"), name),
        None => ("--preset".to_owned(), DEFAULT_PRESET),
    };
    PRESETS.iter().position(|preset| *preset == name).ok_or_else(|| {
        let hint = nearest(name, PRESETS).map(|near| format!("; did you mean `{near}`?"));
        let names = PRESETS.join(", ");
        let shown: String = name.escape_default().take(64).collect();
        Error::Usage(format!(
            "{source}: unknown preset `{shown}`: one of {names}{}",
            hint.unwrap_or_default()
        ))
    })
}

impl Layer<'_> {
    /// The option as its user wrote it: `--lr`, or `lr in FILE, line 3`.
    fn name(&self, option: &str) -> String {
        match self.file {
            Some(file) => {
                let line = file.line_of(option).map(|line| format!(", line {line}")).unwrap_or_default();
                format!("{option} in {}{line}", file.path.display())
            }
            None => format!("--{option}"),
        }
    }
}

impl Merged<'_> {
    /// Takes each option from the highest layer that has it. A length in steps hides a length in epochs of a lower layer,
    /// and the other way round; both in the same layer are an error.
    fn merge(&mut self) -> Result<()> {
        for layer in &self.layers {
            let length = ["epochs", "steps"].map(|option| layer.table.contains_key(option));
            if length == [true, true] {
                return Err(Error::Usage(format!(
                    "{} excludes {}: give one of them",
                    layer.name("steps"),
                    layer.name("epochs")
                )));
            }
            let has_length = self.values.contains_key("epochs") || self.values.contains_key("steps");
            for (option, value) in &layer.table {
                let is_length = option == "epochs" || option == "steps";
                let hidden = self.values.contains_key(option) || (is_length && has_length);
                if !hidden {
                    self.values.insert(option.clone(), value.clone());
                }
            }
        }
        Ok(())
    }

    /// Digits that the user gave no size grow with the frames: 28 of 64 pixels, as MNIST's in Moving MNIST.
    fn scale_digits(&mut self) {
        let above_preset = self.layers.len() - 1;
        if !self.layers[..above_preset].iter().any(|layer| layer.table.contains_key("digit-size")) {
            let digit = (self.whole("size").clamp(0, 1024) * 7 / 16).into();
            self.values.insert("digit-size".to_owned(), digit);
        }
    }

    /// The option as its user wrote it, in the highest layer that has it.
    fn name(&self, option: &str) -> String {
        match self.layers.iter().find(|layer| layer.table.contains_key(option)) {
            Some(layer) => layer.name(option),
            None => format!("--{option}"),
        }
    }

    fn whole(&self, option: &str) -> i64 {
        self.values.get(option).and_then(Value::as_integer).unwrap_or_default()
    }

    fn check_limits(&self) -> Result<()> {
        for (option, value) in &self.values {
            let Some(limit) = limits::find(option) else {
                if value.as_str() == Some("") {
                    return Err(Error::Usage(format!("{} is empty", self.name(option))));
                }
                continue;
            };
            let allowed = match value {
                Value::Integer(value) => limit.allows_whole(*value),
                Value::Float(value) => limit.allows(*value),
                _ => false,
            };
            if !allowed {
                return Err(Error::Usage(format!("{} is {value}, and must be {limit}", self.name(option))));
            }
        }
        Ok(())
    }

    /// Checks the options that depend on each other.
    fn check_together(&self, preset: &TrainOptions) -> Result<()> {
        let wrong = |option: &str, rest: String| Err(Error::Usage(format!("{} {rest}", self.name(option))));
        let (size, digit, next) = (self.whole("size"), self.whole("digit-size"), self.whole("frames-out"));
        let model = preset.preset.as_deref().and_then(Preset::find);
        if let Some(Err(error)) = model.map(|model| model.with(size as usize, next as usize)) {
            return wrong("size", format!("is {size}: {error}"));
        }
        if digit > size {
            return wrong("digit-size", format!("is {digit}, and must be at most the size, {size}"));
        }
        let (sequences, batch, parts) =
            (self.whole("sequences"), self.whole("batch-size"), self.whole("accumulate"));
        if sequences < batch * parts {
            let step = format!("{batch} (batch-size) × {parts} (accumulate)");
            return wrong("sequences", format!("is {sequences}, but one optimiser step takes {step}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::super::{Duration, Loss};
    use super::*;

    fn file(text: &str) -> ConfigFile {
        ConfigFile::parse("c.toml", text).unwrap()
    }

    #[test]
    fn every_preset_resolves_and_reads_back_as_itself() {
        for name in PRESETS {
            let config = TrainConfig::preset(name).unwrap();
            let again = file(&config.to_toml().unwrap());
            assert_eq!(resolve(&TrainOptions::default(), Some(&again)).unwrap(), config, "{name}");
        }
    }

    #[test]
    fn a_file_has_the_options_of_the_command_line_and_the_number_of_ranks() {
        let all = TrainOptions {
            threads: Some(1),
            steps: Some(1),
            init: Some(PathBuf::from("w")),
            out: Some(PathBuf::from("x")),
            fps: Some(1.0),
            stride: Some(1),
            started_in: Some(PathBuf::from("y")),
            ..TrainOptions::defaults(0)
        };
        let mut keys: Vec<String> = table(&all, "").unwrap().keys().cloned().collect();
        let mut names: Vec<String> = TrainOptions::names().collect();
        keys.sort();
        names.sort();
        assert_eq!(keys, names);
    }

    #[test]
    fn higher_layers_win() {
        let low = file("preset = 'base'\nlr = 1e-2\nsteps = 7\nclip-norm = 1.0");
        let high = file("lr = 5e-3\nloss = 'mse'");
        let command_line = TrainOptions { batch_size: Some(4), clip_norm: Some(0.0), ..Default::default() };
        let config = resolve_over(&command_line, &[&low, &high]).unwrap();
        assert_eq!((config.preset.as_str(), config.lr, config.loss), ("base", 5e-3, Loss::Mse));
        assert_eq!((config.batch_size, config.clip_norm, config.duration()), (4, None, Duration::Steps(7)));
        let command_line = TrainOptions { epochs: Some(3), ..Default::default() };
        let config = resolve_over(&command_line, &[&low, &high]).unwrap();
        assert_eq!((config.duration(), config.total_steps()), (Duration::Epochs(3), 3 * 625));
    }

    #[test]
    fn digits_grow_with_the_frames_unless_their_size_is_given() {
        for (size, digit) in [(32, 14), (48, 21), (64, 28), (128, 56), (256, 112)] {
            let options = TrainOptions { size: Some(size), frames_out: Some(5), ..Default::default() };
            let config = resolve(&options, None).unwrap();
            assert_eq!((config.size, config.digit_size, config.frames_out), (size as usize, digit, 5));
            assert_eq!(config.data_spec().unwrap().frames, 15);
            let model = config.model().unwrap();
            assert_eq!((model.size, model.frames_out), (size as usize, 5));
            assert_eq!(TrainConfig::of(&model).unwrap(), config);
            let given = resolve(&options, Some(&file("digit-size = 20"))).unwrap();
            assert_eq!(given.digit_size, 20);
        }
    }

    #[test]
    fn errors_name_option_value_and_what_is_allowed() {
        let none = TrainOptions::default;
        for (command_line, text, expected) in [
            (
                TrainOptions { lr: Some(0.0), ..none() },
                "",
                "--lr is 0.0, and must be a number above 0, at most 10",
            ),
            (TrainOptions { lr: Some(f64::NAN), ..none() }, "", "--lr is nan, and must be"),
            (
                TrainOptions { batch_size: Some(-1), ..none() },
                "",
                "--batch-size is -1, and must be a whole number from 1",
            ),
            (
                none(),
                "\nema = 1.0",
                "ema in c.toml, line 2 is 1.0, and must be 0 (off) or a number between 0 and 1",
            ),
            (none(), "out = ''", "out in c.toml, line 1 is empty"),
            (
                none(),
                "preset = 'tinny'",
                "preset in c.toml, line 1: unknown preset `tinny`: one of nano, tiny, small, base, large; did you mean",
            ),
            (none(), "epochs = 1\nsteps = 2", "steps in c.toml, line 2 excludes epochs in c.toml, line 1"),
            (
                TrainOptions { size: Some(40), ..none() },
                "",
                "--size is 40: the model `tiny` takes frames whose side is a multiple of 16 from 32 to 256 pixels, not 40",
            ),
            (none(), "canvas = 33", "size in c.toml, line 1 is 33: the model `tiny` takes"),
            (
                TrainOptions { size: Some(512), ..none() },
                "",
                "--size is 512, and must be a whole number from 32",
            ),
            (
                TrainOptions { frames_out: Some(21), ..none() },
                "",
                "--frames-out is 21, and must be a whole number from 1 to 20",
            ),
            (
                TrainOptions { digit_size: Some(65), ..none() },
                "",
                "--digit-size is 65, and must be at most the size, 64",
            ),
            (
                TrainOptions { sequences: Some(31), accumulate: Some(2), batch_size: Some(16), ..none() },
                "",
                "--sequences is 31, but one optimiser step takes 16 (batch-size) × 2",
            ),
            (TrainOptions { frames_in: Some(2), ..none() }, "", "--frames-in is 2"),
        ] {
            let error = resolve(&command_line, Some(&file(text))).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    proptest! {
        #[test]
        fn any_numbers_resolve_and_read_back_or_are_refused(
            lr in prop_oneof![any::<f64>(), 0.0..1.0], decay in 0.0..1.1f64, seed in any::<i64>(),
            steps in -5..100_000i64, batch in -2..70000i64, parts in prop_oneof![any::<i64>(), 1..9i64],
        ) {
            let options = TrainOptions {
                lr: Some(lr), ema: Some(decay), seed: Some(seed), steps: Some(steps), batch_size: Some(batch),
                accumulate: Some(parts), sequences: Some(1_000_000_000), ..Default::default()
            };
            if let Ok(config) = resolve(&options, None) {
                let again = file(&config.to_toml().unwrap());
                prop_assert_eq!(resolve(&TrainOptions::default(), Some(&again)).unwrap(), config);
            }
        }
    }
}
