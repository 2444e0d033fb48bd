//! PTX's fundamental types (PTX ISA, "Fundamental Types").

/// Interpretation of a type's bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Bits without interpretation, such as `.b32`.
    Bits,
    /// An unsigned integer.
    Unsigned,
    /// A two's complement integer.
    Signed,
    /// An IEEE float (f16, f32, f64).
    Float,
    /// The bfloat16 format.
    Brain,
    /// tf32: an f32 whose low 13 bits are ignored.
    Tensor,
    Predicate,
    /// A reference to a texture, sampler or surface.
    Opaque,
}

/// A type: the interpretation and the number of its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Type {
    /// Interpretation of its bits.
    pub kind: Kind,
    /// Number of bits of one element.
    pub bits: u32,
    /// Whether a register holds two elements: f16x2, bf16x2, u16x2, s16x2.
    pub pair: bool,
}

impl Type {
    /// Untyped 32 bits.
    pub const B32: Self = Self { kind: Kind::Bits, bits: 32, pair: false };
    /// Untyped 64 bits.
    pub const B64: Self = Self { kind: Kind::Bits, bits: 64, pair: false };
    /// The type `.f32`.
    pub const F32: Self = Self { kind: Kind::Float, bits: 32, pair: false };
    /// The type `.pred`.
    pub const PREDICATE: Self = Self { kind: Kind::Predicate, bits: 1, pair: false };
    /// `.texref`, `.samplerref`, `.surfref`: a handle of 64 bits.
    pub const OPAQUE: Self = Self { kind: Kind::Opaque, bits: 64, pair: false };

    /// The type that a suffix without its dot names.
    pub fn named(text: &str) -> Option<Self> {
        let (kind, bits, pair) = match text {
            "pred" => (Kind::Predicate, 1, false),
            "b8" => (Kind::Bits, 8, false),
            "b16" => (Kind::Bits, 16, false),
            "b32" => (Kind::Bits, 32, false),
            "b64" => (Kind::Bits, 64, false),
            "b128" => (Kind::Bits, 128, false),
            "u8" => (Kind::Unsigned, 8, false),
            "u16" => (Kind::Unsigned, 16, false),
            "u32" => (Kind::Unsigned, 32, false),
            "u64" => (Kind::Unsigned, 64, false),
            "s8" => (Kind::Signed, 8, false),
            "s16" => (Kind::Signed, 16, false),
            "s32" => (Kind::Signed, 32, false),
            "s64" => (Kind::Signed, 64, false),
            "f16" => (Kind::Float, 16, false),
            "f32" => (Kind::Float, 32, false),
            "f64" => (Kind::Float, 64, false),
            "f16x2" => (Kind::Float, 16, true),
            "bf16" => (Kind::Brain, 16, false),
            "bf16x2" => (Kind::Brain, 16, true),
            "u16x2" => (Kind::Unsigned, 16, true),
            "s16x2" => (Kind::Signed, 16, true),
            "tf32" => (Kind::Tensor, 32, false),
            _ => return None,
        };
        Some(Self { kind, bits, pair })
    }

    /// Number of bits in a register.
    pub fn width(self) -> u32 {
        if self.pair { 2 * self.bits } else { self.bits }
    }

    /// Size in memory in bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.width()).div_ceil(8)
    }

    /// Whether it is a two's complement integer.
    pub fn signed(self) -> bool {
        self.kind == Kind::Signed
    }

    /// Whether it is an integer or untyped bits.
    pub fn integer(self) -> bool {
        matches!(self.kind, Kind::Bits | Kind::Unsigned | Kind::Signed)
    }
}
