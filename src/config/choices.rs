//! The options that take one of a few words.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Gives a [`ValueEnum`] its word ([`Display`](std::fmt::Display)) and reads it back
/// ([`FromStr`](std::str::FromStr)).
macro_rules! words {
    ($($choice:ident),*) => {$(
        impl $choice {
            /// The word that stands for this choice on the command line and in a file.
            pub fn as_str(self) -> &'static str {
                Self::WORDS[self as usize]
            }
        }

        impl std::fmt::Display for $choice {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $choice {
            type Err = crate::Error;

            fn from_str(word: &str) -> crate::Result<Self> {
                Self::value_variants().iter().copied().find(|choice| choice.as_str() == word).ok_or_else(|| {
                    crate::Error::Usage(format!("`{word}` is not one of {}", Self::WORDS.join(", ")))
                })
            }
        }
    )*};
}

/// Where the tensors live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// A GPU where there is one that the kernels run on, else the processor
    #[default]
    Auto,
    /// The processor
    Cpu,
    /// An NVIDIA GPU
    Cuda,
    /// The PTX emulator: a GPU's kernels on the processor, for tests
    Emulator,
}

/// What activations and matrix products are computed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// f16 on a GPU and in the emulator, f32 on the processor
    #[default]
    Auto,
    /// f16 with f32 sums, masters and statistics, and a loss scale: a GPU's
    F16,
    /// f32: the processor's
    F32,
}

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// Half a cosine to zero, moved on at every step
    #[default]
    Cosine,
    /// Half a cosine to zero, moved on at every epoch
    CosineEpoch,
    /// It stays
    Constant,
}

/// What training makes small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// The mean absolute error
    #[default]
    L1,
    /// The mean squared error
    Mse,
    /// The sum of both
    #[value(name = "l1+mse")]
    #[serde(rename = "l1+mse")]
    L1Mse,
}

/// How gradients on GPUs are added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Comm {
    /// By this program's ring: over peer memory within a machine, else through the host over TCP
    #[default]
    Ring,
    /// By NCCL's all-reduce
    Nccl,
}

impl Comm {
    const WORDS: [&'static str; 2] = ["ring", "nccl"];
}

impl Device {
    const WORDS: [&'static str; 4] = ["auto", "cpu", "cuda", "emulator"];
}

impl Precision {
    const WORDS: [&'static str; 3] = ["auto", "f16", "f32"];
}

impl ScheduleKind {
    const WORDS: [&'static str; 3] = ["cosine", "cosine-epoch", "constant"];
}

impl Loss {
    const WORDS: [&'static str; 3] = ["l1", "mse", "l1+mse"];
}

words!(Comm, Device, Precision, ScheduleKind, Loss);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Layout, Rule};

    fn agrees<C>()
    where
        C: ValueEnum + Copy + std::fmt::Debug + PartialEq + ToString + std::str::FromStr<Err = crate::Error>,
        C: Serialize + for<'a> Deserialize<'a>,
    {
        for &choice in C::value_variants() {
            let word = choice.to_string();
            assert_eq!(choice.to_possible_value().unwrap().get_name(), word);
            assert_eq!(word.parse::<C>().unwrap(), choice);
            assert_eq!(serde_json::to_value(choice).unwrap(), serde_json::Value::from(word.as_str()));
            assert_eq!(serde_json::from_value::<C>(word.into()).unwrap(), choice);
        }
        assert_eq!("no such word".parse::<C>().unwrap_err().exit_code(), 2);
    }

    #[test]
    fn command_line_file_and_display_use_the_same_words() {
        agrees::<Comm>();
        agrees::<Device>();
        agrees::<Precision>();
        agrees::<Layout>();
        agrees::<Rule>();
        agrees::<ScheduleKind>();
        agrees::<Loss>();
    }
}
