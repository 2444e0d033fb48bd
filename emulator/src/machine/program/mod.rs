//! The decoded form of a module: instructions with their operands resolved to columns. Decoding builds it and execution
//! reads it; this module imports neither.

mod atomic;
mod instruction;
mod matrix;
mod operand;

use super::lanes::{V32, V64};

pub(crate) use atomic::{Atomic, AtomicOp};
pub(crate) use instruction::{
    Argument, BarrierKind, BarrierOp, CallOp, Callee, Carry, Combine, ConvertAddress, Exchange, Formal, Inst,
    Logic, Op, Reconvergence, Redux, SetPredicate, Shuffle, Transfer, Vote,
};
pub(crate) use matrix::{AsyncCopy, Fragment, Matrices, Matrix, Multiply, Product};
pub(crate) use operand::{Address, Loc, LocKind, PerFile, Pred, RegisterFile, SPECIALS, Special, Value};

/// The source text of an instruction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SourceSpan {
    /// Line in the text, from 1.
    pub line: u32,
    /// Byte offset of its start.
    pub start: usize,
    /// Byte offset of its end.
    pub end: usize,
}

/// Position of an instruction in a program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CodeAddress {
    /// Index of the routine.
    pub routine: usize,
    /// Index of the instruction in the routine: its program counter.
    pub pc: u32,
}

/// A kernel or function.
#[derive(Debug, Clone, Default)]
pub(crate) struct Routine {
    /// Line of its declaration.
    pub line: u32,
    /// Its instructions; the last is a return.
    pub code: Vec<Inst>,
    /// The text of each instruction.
    pub spans: Vec<SourceSpan>,
    /// The names of its registers.
    pub register_names: PerFile<Vec<String>>,
    /// Size of its frame in local memory in bytes.
    pub frame: u64,
    /// Targets of each `brx.idx` table.
    pub tables: Vec<Vec<u32>>,
    /// Places of its results; empty for kernels.
    pub returns: Vec<Formal>,
    /// Places of its arguments; empty for kernels.
    pub parameters: Vec<Formal>,
}

impl Routine {
    /// The line of an instruction; 0 outside the code.
    pub fn line_of(&self, pc: u32) -> u32 {
        self.spans.get(pc as usize).map_or(0, |span| span.line)
    }
}

/// A constant whose value, an address, is known when the module is loaded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Relocation {
    /// Index of the 64-bit constant to set.
    pub constant: usize,
    /// Index in the unit of the variable with this address.
    pub variable: usize,
    /// Bytes to add to the address.
    pub offset: i64,
}

/// A kernel with the functions that it can call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Program {
    /// The kernel first, then the functions.
    pub routines: Vec<Routine>,
    pub constants32: Vec<V32>,
    pub constants64: Vec<V64>,
    /// Constants that are addresses.
    pub relocations: Vec<Relocation>,
    /// For each function of the module, its index in `routines`; `None` if the kernel cannot call it.
    pub routine_of: Vec<Option<usize>>,
    /// Whether an instruction calls `malloc` or `free`.
    pub heap: bool,
    /// Size of local variables outside functions in bytes. They are at the bottom of a thread's local memory.
    pub locals: u64,
    /// First address and size in bytes of each constant variable, once the module is loaded.
    pub constant_ranges: Vec<(u64, u64)>,
}

impl Program {
    /// Size of a routine's frame in bytes; 0 for an index outside the program.
    pub fn frame_of(&self, routine: usize) -> u64 {
        self.routines.get(routine).map_or(0, |routine| routine.frame)
    }
}

/// First address of functions, far from all memory.
const FUNCTIONS: u64 = 0x0400_0000_0000_0000;
/// Bytes between the addresses of two functions.
const FUNCTION_BYTES: u64 = 16;

/// The address of a function of the module, the same in all its kernels.
pub(crate) fn function_address(function: usize) -> u64 {
    FUNCTIONS + FUNCTION_BYTES * function as u64
}

/// The function with this address.
pub(crate) fn function_at(address: u64) -> Option<usize> {
    let offset = address.wrapping_sub(FUNCTIONS);
    usize::try_from(offset / FUNCTION_BYTES).ok().filter(|_| offset.is_multiple_of(FUNCTION_BYTES))
}
