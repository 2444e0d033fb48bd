//! Typed addresses with their state space, loads and stores.

use std::marker::PhantomData;

use super::{InMemory, Operand, Reg, S32, S64, Type, U32, U64, Var};

/// A state space of PTX.
pub trait Space: Copy + 'static {
    /// The suffix in instructions, such as `global`.
    const NAME: &'static str;
    /// The register type of its addresses.
    type Address: Type;

    /// base + index·bytes.
    fn element<'a>(base: Reg<'a, Self::Address>, index: Reg<'a, U32>, bytes: u32) -> Reg<'a, Self::Address>;
    /// base + bytes.
    fn plus<'a>(base: Reg<'a, Self::Address>, bytes: i64) -> Reg<'a, Self::Address>;
    /// base + index, in bytes.
    fn byte<'a>(base: Reg<'a, Self::Address>, index: Reg<'a, U32>) -> Reg<'a, Self::Address>;
}

/// Device memory, with 64-bit addresses.
#[derive(Debug, Clone, Copy)]
pub enum GlobalSpace {}

/// Shared memory of a block.
#[derive(Debug, Clone, Copy)]
pub enum SharedSpace {}

impl Space for GlobalSpace {
    const NAME: &'static str = "global";
    type Address = U64;

    fn element<'a>(base: Reg<'a, U64>, index: Reg<'a, U32>, bytes: u32) -> Reg<'a, U64> {
        index.mad_wide(bytes, base)
    }

    fn plus<'a>(base: Reg<'a, U64>, bytes: i64) -> Reg<'a, U64> {
        if bytes == 0 { base } else { base + bytes as u64 }
    }

    fn byte<'a>(base: Reg<'a, U64>, index: Reg<'a, U32>) -> Reg<'a, U64> {
        index.mad_wide(1, base)
    }
}

impl Space for SharedSpace {
    const NAME: &'static str = "shared";
    type Address = U32;

    fn element<'a>(base: Reg<'a, U32>, index: Reg<'a, U32>, bytes: u32) -> Reg<'a, U32> {
        index.mad(bytes, base)
    }

    fn plus<'a>(base: Reg<'a, U32>, bytes: i64) -> Reg<'a, U32> {
        if bytes == 0 { base } else { base + bytes as u32 }
    }

    fn byte<'a>(base: Reg<'a, U32>, index: Reg<'a, U32>) -> Reg<'a, U32> {
        base + index
    }
}

/// An address of elements `T` in space `S`: a register and a constant offset, which costs no instruction.
pub struct Pointer<'a, S: Space, T: Type> {
    base: Reg<'a, S::Address>,
    offset: i64,
    tag: PhantomData<T>,
}

/// An address in global memory.
pub type Global<'a, T> = Pointer<'a, GlobalSpace, T>;

/// An address in shared memory.
pub type Shared<'a, T> = Pointer<'a, SharedSpace, T>;

impl<S: Space, T: Type> Clone for Pointer<'_, S, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Space, T: Type> Copy for Pointer<'_, S, T> {}

/// Cache hint of a global access (PTX ISA, "Cache operators").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// The default cache operator.
    Default,
    /// Read-only for the whole kernel: uses the texture path.
    ReadOnly,
    /// Used once: evicted first.
    Streaming,
    /// Cached in L2 only.
    L2,
}

impl Hint {
    fn load(self) -> &'static str {
        match self {
            Self::Default => "",
            Self::ReadOnly => ".nc",
            Self::Streaming => ".cs",
            Self::L2 => ".cg",
        }
    }

    fn store(self) -> &'static str {
        match self {
            Self::Default | Self::ReadOnly => "",
            Self::Streaming => ".cs",
            Self::L2 => ".cg",
        }
    }
}

impl<'a, S: Space, T: Type> Pointer<'a, S, T> {
    pub(crate) fn at_register(base: Reg<'a, S::Address>) -> Self {
        Self { base, offset: 0, tag: PhantomData }
    }

    /// The address that a variable holds; it changes with the variable.
    pub fn follow(address: Var<'a, S::Address>) -> Self {
        Self::at_register(address.0)
    }

    /// The address in a variable, for incrementing.
    pub fn to_var(self) -> Var<'a, S::Address>
    where
        S::Address: super::Number,
    {
        let address = S::plus(self.base, self.offset);
        let var = self.base.asm.register();
        var.set(address);
        var
    }

    /// The same address, for elements `U`.
    pub fn cast<U: Type>(self) -> Pointer<'a, S, U> {
        Pointer { base: self.base, offset: self.offset, tag: PhantomData }
    }

    /// The address `elements` elements later.
    pub fn plus(self, elements: i64) -> Self {
        self.plus_bytes(elements * i64::from(T::BYTES))
    }

    /// The address `bytes` bytes later.
    pub fn plus_bytes(self, bytes: i64) -> Self {
        Self { offset: self.offset + bytes, ..self }
    }

    /// The address `index` elements later; below 2³² elements.
    pub fn at(self, index: Reg<'a, U32>) -> Self {
        Self { base: S::element(self.base, index, T::BYTES), ..self }
    }

    /// The address `bytes` bytes later.
    pub fn at_byte(self, bytes: Reg<'a, U32>) -> Self {
        Self { base: S::byte(self.base, bytes), ..self }
    }

    /// The address operand as text.
    pub(crate) fn address(self) -> String {
        match self.offset {
            0 => format!("[{}]", self.base.name()),
            // A negative offset also has the plus sign: `[a+-4]`.
            offset => format!("[{}+{offset}]", self.base.name()),
        }
    }
}

impl<'a, T: Type> Global<'a, T> {
    /// The address `index` elements later, or earlier if it is negative.
    pub fn at_signed(self, index: Reg<'a, S32>) -> Self {
        let base = index.mad_wide(T::BYTES as i32, self.base.bits_as::<S64>());
        Self { base: base.bits_as::<U64>(), ..self }
    }

    /// The address `index` elements later, where this may exceed 2³² elements.
    pub fn at_wide(self, index: Reg<'a, U64>) -> Self {
        Self { base: index.mad(u64::from(T::BYTES), self.base), ..self }
    }
}

impl<'a, T: Type> Shared<'a, T> {
    /// The address in bytes, constant offset included: for swizzles.
    pub fn to_u32(self) -> Reg<'a, U32> {
        SharedSpace::plus(self.base, self.offset)
    }

    /// A pointer from an address in bytes.
    pub fn from_u32(address: Reg<'a, U32>) -> Self {
        Self::at_register(address)
    }
}

impl<'a, S: Space, T: InMemory> Pointer<'a, S, T> {
    fn load_text<const N: usize>(self, cache: &str) -> [Reg<'a, T::Loaded>; N] {
        let asm = self.base.asm;
        let parts = [(); N].map(|()| asm.reg::<T::Loaded>());
        let names: Vec<_> = parts.iter().map(|r| r.name()).collect();
        let (vector, names) = vector_text(&names);
        asm.emit(&format!("ld.{}{cache}{vector}.{}", S::NAME, T::BITS), &[names, self.address()]);
        parts
    }

    fn store_text<V: Operand<'a, T::Loaded>, const N: usize>(self, values: [V; N], cache: &str) {
        let names: Vec<_> = values.iter().map(|v| v.text()).collect();
        let (vector, names) = vector_text(&names);
        self.base.asm.emit(&format!("st.{}{cache}{vector}.{}", S::NAME, T::BITS), &[self.address(), names]);
    }

    /// Loads the element at this address.
    pub fn load(self) -> Reg<'a, T::Loaded> {
        self.load_text::<1>("")[0]
    }

    /// Loads N elements (1, 2 or 4) in one access of at most 16 bytes; the address must be aligned to the access.
    pub fn load_vector<const N: usize>(self) -> [Reg<'a, T::Loaded>; N] {
        self.load_text("")
    }

    /// Stores the element at this address.
    pub fn store(self, value: impl Operand<'a, T::Loaded>) {
        self.store_text([value], "");
    }

    /// Stores N elements (1, 2 or 4) in one access of at most 16 bytes.
    pub fn store_vector<const N: usize>(self, values: [Reg<'a, T::Loaded>; N]) {
        self.store_text(values, "");
    }
}

impl<'a, T: InMemory> Global<'a, T> {
    /// [`Pointer::load_vector`] with a cache hint.
    pub fn load_hinted<const N: usize>(self, hint: Hint) -> [Reg<'a, T::Loaded>; N] {
        self.load_text(hint.load())
    }

    /// [`Pointer::store_vector`] with a cache hint.
    pub fn store_hinted<const N: usize>(self, values: [Reg<'a, T::Loaded>; N], hint: Hint) {
        self.store_text(values, hint.store());
    }
}

/// The vector suffix and the operand of a load or store of these registers.
fn vector_text(names: &[String]) -> (String, String) {
    match names {
        [one] => (String::new(), one.clone()),
        many => (format!(".v{}", many.len()), format!("{{{}}}", many.join(", "))),
    }
}
