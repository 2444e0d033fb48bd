//! State spaces, and their windows in the generic address space.

/// A state space (PTX ISA, "State Spaces"). `None` stands for generic addressing where a space is optional.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum StateSpace {
    /// `.reg`, for formal parameters of functions only.
    Register,
    /// `.global`; also the space of generic addresses outside all windows.
    Global,
    /// `.const`, which lies in global memory here.
    Const,
    /// `.shared`, the memory of a block.
    Shared,
    /// `.local`, the memory of a thread.
    Local,
    /// `.param`, the parameters.
    Param,
}

/// First generic address of the block's shared memory.
pub(crate) const SHARED_WINDOW: u64 = 0x0100_0000_0000_0000;

/// First generic address of the thread's local memory.
const LOCAL_WINDOW: u64 = 0x0200_0000_0000_0000;

/// First generic address of the kernel's parameters.
const PARAM_WINDOW: u64 = 0x0300_0000_0000_0000;

/// Size of a window in bytes, far larger than any of these memories.
const WINDOW_BYTES: u64 = 1 << 32;

impl StateSpace {
    /// The spaces that loads and stores distinguish: [`Const`](Self::Const) is part of global memory.
    pub const MEMORIES: [Self; 4] = [Self::Global, Self::Shared, Self::Local, Self::Param];

    /// The space that a generic address belongs to, and the address within it.
    #[inline]
    pub fn of_generic(address: u64) -> (Self, u64) {
        for space in [Self::Shared, Self::Local, Self::Param] {
            let offset = address.wrapping_sub(space.window());
            if offset < WINDOW_BYTES {
                return (space, offset);
            }
        }
        (Self::Global, address)
    }

    /// The offset that `cvta` adds to an address within the space to make it generic.
    #[inline]
    pub fn window(self) -> u64 {
        match self {
            Self::Shared => SHARED_WINDOW,
            Self::Local => LOCAL_WINDOW,
            Self::Param => PARAM_WINDOW,
            Self::Register | Self::Global | Self::Const => 0,
        }
    }
}
