//! The arguments of a kernel launch.

use bytemuck::NoUninit;

/// The arguments of a launch, one for each parameter of the kernel, in order. [`args!`](crate::args) makes them from values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments {
    bytes: Vec<u8>,
    /// End of each argument in `bytes`.
    ends: Vec<usize>,
}

impl Arguments {
    /// An empty list of arguments.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value: a number, a device address as `u64`, an array, or a struct without padding. It must have the size of
    /// its parameter.
    #[must_use]
    pub fn with<T: NoUninit>(mut self, value: T) -> Self {
        self.push_bytes(bytemuck::bytes_of(&value));
        self
    }

    /// Adds an argument that is given as bytes in little-endian order, as many as its parameter has.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len());
    }

    /// Number of arguments so far.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True without any arguments.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of each argument.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }
}

impl<B: AsRef<[u8]>> FromIterator<B> for Arguments {
    /// Each item is one argument, as for [`push_bytes`](Self::push_bytes).
    fn from_iter<I: IntoIterator<Item = B>>(arguments: I) -> Self {
        let mut out = Self::new();
        arguments.into_iter().for_each(|argument| out.push_bytes(argument.as_ref()));
        out
    }
}

/// The [`Arguments`] of a launch from typed values: numbers, device addresses (`u64`), arrays, structs without padding.
///
/// ```
/// use ssmv_emulator::args;
///
/// let x: u64 = 0x7f00_0000_0000; // an address from Memory::alloc
/// let arguments = args![x, 0.5f32, 1000u32];
/// assert_eq!(arguments.iter().map(<[u8]>::len).collect::<Vec<_>>(), [8, 4, 4]);
/// ```
#[macro_export]
macro_rules! args {
    ($($value:expr),* $(,)?) => { $crate::Arguments::new()$(.with($value))* };
}
