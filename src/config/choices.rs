//! Options that take one of a few words.

/// Declares an enum whose variants each have one word: on the command line, in a file, in `Display` and in `FromStr`. The
/// first variant is the default.
macro_rules! choices {
    (
        $(#[doc = $about:literal])+
        $choice:ident {
            $(#[doc = $first_help:literal])+
            $first:ident = $first_word:literal,
            $( $(#[doc = $help:literal])+ $variant:ident = $word:literal, )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
        pub enum $choice {
            $(#[doc = $first_help])+
            #[default]
            #[value(name = $first_word, help = concat!($($first_help),+).trim().trim_end_matches('.'))]
            #[serde(rename = $first_word)]
            $first,
            $(
                $(#[doc = $help])+
                #[value(name = $word, help = concat!($($help),+).trim().trim_end_matches('.'))]
                #[serde(rename = $word)]
                $variant,
            )+
        }

        impl std::fmt::Display for $choice {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    Self::$first => $first_word,
                    $(Self::$variant => $word,)+
                })
            }
        }

        impl std::str::FromStr for $choice {
            type Err = crate::Error;

            fn from_str(word: &str) -> crate::Result<Self> {
                match word {
                    $first_word => Ok(Self::$first),
                    $($word => Ok(Self::$variant),)+
                    _ => {
                        let words = [$first_word, $($word),+].join(", ");
                        Err(crate::Error::Usage(format!("`{word}` is not one of {words}")))
                    }
                }
            }
        }
    };
}
pub(crate) use choices;

choices! {
    /// Device that holds the tensors and runs the operators.
    Device {
        /// The first GPU that can run the kernels, else the CPU
        Auto = "auto",
        /// The CPU
        Cpu = "cpu",
        /// An NVIDIA GPU
        Cuda = "cuda",
        /// The PTX emulator, which runs the GPU kernels on the CPU, for tests
        Emulator = "emulator",
    }
}

choices! {
    /// Number format of activations and matrix products.
    Precision {
        /// f16 on a GPU and on the emulator, f32 on the CPU
        Auto = "auto",
        /// f16, with sums, master weights and statistics in f32 and a loss scale; for a GPU
        F16 = "f16",
        /// Convolutions of bf16 with f32 sums, everything else in f32; for a CPU with avx512_bf16
        Bf16 = "bf16",
        /// f32; for the CPU
        F32 = "f32",
    }
}

choices! {
    /// Learning rate after the warm-up.
    ScheduleKind {
        /// Half a cosine down to zero, updated at every step
        Cosine = "cosine",
        /// Half a cosine down to zero, updated at every epoch
        CosineEpoch = "cosine-epoch",
        /// The highest rate until the end
        Constant = "constant",
    }
}

choices! {
    /// Loss function of the training.
    Loss {
        /// Mean absolute error
        L1 = "l1",
        /// Mean squared error
        Mse = "mse",
        /// Sum of both
        L1Mse = "l1+mse",
    }
}

choices! {
    /// All-reduce that sums the gradients of GPUs.
    Comm {
        /// This program's ring: over peer memory within a machine, else through the host over TCP
        Ring = "ring",
        /// NCCL's all-reduce
        Nccl = "nccl",
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::clips::Layout;
    use crate::data::Rule;

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
