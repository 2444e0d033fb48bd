//! Type tags of registers. They exist only at compile time.

/// Register classes: the declaration in PTX, and the prefix of the register's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// `.pred`: conditions.
    Pred,
    /// `.b16`: integers and single halves.
    B16,
    /// `.b32`: integers.
    B32,
    /// `.b32` that holds two halves; a separate class so that the text shows it.
    Pair,
    /// `.b64`: integers and addresses.
    B64,
    /// `.f32`.
    F32,
    /// `.f64`.
    F64,
}

impl Class {
    pub(crate) const ALL: [Self; 7] =
        [Self::Pred, Self::B16, Self::B32, Self::Pair, Self::B64, Self::F32, Self::F64];

    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Pred => "%p",
            Self::B16 => "%h",
            Self::B32 => "%r",
            Self::Pair => "%hh",
            Self::B64 => "%rd",
            Self::F32 => "%f",
            Self::F64 => "%fd",
        }
    }

    pub(crate) fn declaration(self) -> &'static str {
        match self {
            Self::Pred => ".pred",
            Self::B16 => ".b16",
            Self::B32 | Self::Pair => ".b32",
            Self::B64 => ".b64",
            Self::F32 => ".f32",
            Self::F64 => ".f64",
        }
    }
}

/// The type of a register.
pub trait Type: Copy + 'static {
    /// Instruction suffix, without its dot.
    const NAME: &'static str;
    /// Suffix of moves, loads and stores.
    const BITS: &'static str;
    /// The register class of the type.
    const CLASS: Class;
    /// Size in memory in bytes.
    const BYTES: u32;
}

/// Types with arithmetic instructions.
pub trait Number: Type {
    /// Modifier of `add` and `sub` between mnemonic and type.
    const ADD: &'static str;
    /// Modifier of `mul` and `mad`: `.lo` for integers, the rounding for floats.
    const MUL: &'static str;
    /// Modifier of `div` before the type.
    const DIV: &'static str;
}

/// Integer types, signed and unsigned.
pub trait Integer: Number {
    /// Whether the type is signed.
    const SIGNED: bool;
}

/// Floating-point numbers. Every operation names its rounding: `add.f32` without one may be fused into an `fma`.
pub trait Float: Number {}

/// Types of loads and stores.
pub trait InMemory: Type {
    /// The register type after a load: bytes are widened.
    type Loaded: Type;
}

macro_rules! types {
    ($($(#[$doc:meta])* $tag:ident $name:literal $bits:literal $class:ident $bytes:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $tag {}

        impl Type for $tag {
            const NAME: &'static str = $name;
            const BITS: &'static str = $bits;
            const CLASS: Class = Class::$class;
            const BYTES: u32 = $bytes;
        }
    )*};
}

types! {
    /// A predicate: true or false.
    Pred "pred" "pred" Pred 0;
    /// 16 untyped bits.
    B16 "b16" "b16" B16 2;
    /// 32 untyped bits.
    B32 "b32" "b32" B32 4;
    /// 64 untyped bits.
    B64 "b64" "b64" B64 8;
    /// IEEE binary16.
    F16 "f16" "b16" B16 2;
    /// Two binary16 in 32 bits, the one at the lower address in the low half.
    F16x2 "f16x2" "b32" Pair 4;
    /// IEEE binary32.
    F32 "f32" "f32" F32 4;
    /// IEEE binary64.
    F64 "f64" "f64" F64 8;
    /// An unsigned byte; in memory only, a register holds it as [`U32`].
    U8 "u8" "u8" B32 1;
    /// Unsigned 16 bits.
    U16 "u16" "u16" B16 2;
    /// Unsigned 32 bits.
    U32 "u32" "u32" B32 4;
    /// Unsigned 64 bits.
    U64 "u64" "u64" B64 8;
    /// Signed 32 bits.
    S32 "s32" "s32" B32 4;
    /// Signed 64 bits.
    S64 "s64" "s64" B64 8;
}

macro_rules! numbers {
    ($($tag:ident $add:literal $mul:literal $div:literal;)*) => {$(
        impl Number for $tag {
            const ADD: &'static str = $add;
            const MUL: &'static str = $mul;
            const DIV: &'static str = $div;
        }
    )*};
}

numbers! {
    F16 ".rn" ".rn" "";
    F16x2 ".rn" ".rn" "";
    F32 ".rn" ".rn" ".rn";
    F64 ".rn" ".rn" ".rn";
    U16 "" ".lo" "";
    U32 "" ".lo" "";
    U64 "" ".lo" "";
    S32 "" ".lo" "";
    S64 "" ".lo" "";
}

macro_rules! integers {
    ($($tag:ident $signed:literal;)*) => {$(
        impl Integer for $tag {
            const SIGNED: bool = $signed;
        }
    )*};
}

integers! {
    U16 false;
    U32 false;
    U64 false;
    S32 true;
    S64 true;
}

impl Float for F16 {}
impl Float for F16x2 {}
impl Float for F32 {}
impl Float for F64 {}

macro_rules! in_memory {
    ($($tag:ident as $loaded:ident),*) => {$(
        impl InMemory for $tag {
            type Loaded = $loaded;
        }
    )*};
}

in_memory!(
    B16 as B16,
    B32 as B32,
    B64 as B64,
    F16 as F16,
    F16x2 as F16x2,
    F32 as F32,
    F64 as F64,
    U8 as U32,
    U16 as U16,
    U32 as U32,
    U64 as U64,
    S32 as S32,
    S64 as S64
);
