//! Tests of the instruction set: one-warp kernels that run every instruction of the assembler, each with its expected
//! value. They test an assembler, an emulator or a GPU; models do not use them.
//!
//! | file | instructions |
//! | --- | --- |
//! | [`integers`] | integer arithmetic, comparisons, bits |
//! | [`floats`] | the same for floats, and functions |
//! | [`conversions`] | between all numbers, with every rounding |
//! | [`memory`] | loads, stores, hints, atomics, parameters |
//! | [`together`] | control flow, shuffles, votes, barriers |
//! | [`tiles`] | asynchronous copies, `ldmatrix`, `mma` |

mod conversions;
mod floats;
mod integers;
mod memory;
mod tiles;
mod together;
mod word;

use std::cell::RefCell;

pub use conversions::conversions;
pub use floats::floats;
pub use integers::integers;
pub use memory::memory;
pub use tiles::tiles;
pub use together::together;
pub use word::Word;

use crate::{
    Kernel, Target, Work,
    ptx::{Asm, Global, Launch, Pred, Reg, U32, U64},
};

/// Family of these kernels: the start of their names.
pub const FAMILY: &str = "isa_test";

/// Threads of every test: one warp.
pub const LANES: u32 = 32;

/// A float's value from its bits.
type FromBits = fn(u64) -> f64;

/// An instruction under test, and the value that it must give in each lane.
#[derive(Debug, Clone)]
struct Stop {
    what: String,
    /// Expected bits, one value per lane.
    expected: Vec<u64>,
    /// Size of a value in bytes.
    bytes: usize,
    /// Decodes a float from its bits, with the relative error that an approximation may have; `None` compares bits.
    float: Option<(FromBits, f64)>,
}

/// A kernel, its arguments and its expected results. The parameters are the input, the output, and then the
/// [`IsaTest::numbers`].
#[derive(Debug, Clone)]
pub struct IsaTest {
    /// The kernel, of one warp.
    pub kernel: Kernel,
    /// Contents of the input, which the first parameter points to.
    pub input: Vec<u8>,
    /// The 32-bit parameters after the output.
    pub numbers: Vec<u32>,
    stops: Vec<Stop>,
}

/// All tests for a target.
pub fn isa_tests(target: Target) -> Vec<IsaTest> {
    [integers, floats, conversions, memory, together, tiles].map(|test| test(target)).into()
}

/// The kernels of all tests.
pub fn catalogue(target: Target) -> Vec<Kernel> {
    isa_tests(target).into_iter().map(|test| test.kernel).collect()
}

impl IsaTest {
    /// Size of the output in bytes: 8 per lane and instruction.
    pub fn output_bytes(&self) -> usize {
        self.stops.len() * LANES as usize * 8
    }

    /// Compares an output with the expected values. NaNs are equal regardless of their payload.
    ///
    /// # Errors
    /// A message about the first instruction with a wrong result.
    pub fn check(&self, output: &[u8]) -> Result<(), String> {
        let name = &self.kernel.name;
        if output.len() != self.output_bytes() {
            return Err(format!("{name}: an output of {} bytes, not {}", output.len(), self.output_bytes()));
        }
        let slots = output.chunks_exact(LANES as usize * 8);
        for (stop, slots) in self.stops.iter().zip(slots) {
            for (lane, (slot, &want)) in slots.chunks_exact(8).zip(&stop.expected).enumerate() {
                let mut word = [0; 8];
                word[..stop.bytes].copy_from_slice(&slot[..stop.bytes]);
                let got = u64::from_le_bytes(word);
                if got == want {
                    continue;
                }
                let near = stop.float.is_some_and(|(value, relative)| {
                    let (got, want) = (value(got), value(want));
                    got.is_nan() && want.is_nan() || (got - want).abs() <= relative * want.abs()
                });
                // +0 and −0 are equal as numbers, but their bits differ.
                if !near || want << (64 - 8 * stop.bytes) << 1 == 0 {
                    return Err(format!("{name}: {}, lane {lane}: {got:#x}, not {want:#x}", stop.what));
                }
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Notes {
    input: Vec<u8>,
    stops: Vec<Stop>,
}

/// Context of a test's body: supplies inputs and registers results.
struct Guide<'a> {
    asm: &'a Asm,
    /// The lane's first word of the input and of the output.
    input: Global<'a, U64>,
    output: Global<'a, U64>,
    lane: Reg<'a, U32>,
    notes: &'a RefCell<Notes>,
}

impl<'a> Guide<'a> {
    /// Loads one value per lane from memory, so that the compiler cannot fold it.
    fn give<T: Word>(&self, value: impl Fn(u32) -> T::Host) -> Reg<'a, T> {
        self.input_slot::<T>(value).load()
    }

    /// Places the values in the input, 8 bytes apart, and returns their address.
    fn input_slot<T: Word>(&self, value: impl Fn(u32) -> T::Host) -> Global<'a, T> {
        let mut notes = self.notes.borrow_mut();
        let at = notes.input.len() as i64;
        (0..LANES).for_each(|lane| notes.input.extend(T::bits(value(lane)).to_le_bytes()));
        self.input.plus_bytes(at).cast()
    }

    /// The next slot of the output, 8 bytes per lane, in which instruction `what` must store `expected`.
    fn output_slot<T: Word>(
        &self,
        what: &str,
        relative: f64,
        expected: impl Fn(u32) -> T::Host,
    ) -> Global<'a, T> {
        let mut notes = self.notes.borrow_mut();
        let at = notes.stops.len() as i64 * i64::from(LANES) * 8;
        notes.stops.push(Stop {
            what: what.to_owned(),
            expected: (0..LANES).map(|lane| T::bits(expected(lane))).collect(),
            bytes: T::BYTES as usize,
            float: T::VALUE.map(|value| (value, relative)),
        });
        self.output.plus_bytes(at).cast()
    }

    /// Stores a result that must equal `expected` bit by bit.
    fn check<T: Word>(&self, what: &str, got: Reg<'a, T>, expected: impl Fn(u32) -> T::Host) {
        self.output_slot::<T>(what, 0.0, expected).store(got);
    }

    /// Stores a result that may have a relative error.
    fn near<T: Word>(&self, what: &str, got: Reg<'a, T>, relative: f64, expected: impl Fn(u32) -> T::Host) {
        self.output_slot::<T>(what, relative, expected).store(got);
    }

    /// Stores a predicate, as 1 or 0.
    fn holds(&self, what: &str, got: Reg<'a, Pred>, expected: impl Fn(u32) -> bool) {
        self.check(what, self.asm.select::<U32>(got, 1, 0), |lane| expected(lane).into());
    }
}

/// Builds a test: its name, its numbers, and the instructions that it runs.
fn isa_test(name: &str, target: Target, numbers: Vec<u32>, body: impl for<'a> Fn(&Guide<'a>)) -> IsaTest {
    let notes = RefCell::new(Notes::default());
    let launch = Launch::new(FAMILY, format!("isa_test_{name}"), target).block([LANES, 1, 1]);
    let kernel = Asm::kernel(launch, Work::default(), &format!("{name}, each with its result"), |asm| {
        let (input, output, lane) = (asm.pointer::<U64>("x"), asm.pointer::<U64>("y"), asm.thread(0));
        body(&Guide { asm, input: input.at(lane), output: output.at(lane), lane, notes: &notes });
    });
    let Notes { input, stops } = notes.into_inner();
    IsaTest { kernel, input, numbers, stops }
}
