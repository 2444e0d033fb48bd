//! Tests of loads and stores of every width and hint, parameters, atomics.

use super::{Guide, IsaTest, Word, isa_test};
use crate::{
    Target,
    ptx::{
        AtomicOp, B16, B32, B64, F16, F16x2, F32, F64, Global, Hint, InMemory, Integer, Operand, Pointer,
        Reg, S32, S64, Space, U8, U16, U32, U64,
    },
};

const NUMBERS: [u32; 3] = [7_919, -5i32 as u32, 0x3FC0_0000];

/// The test of memory instructions.
pub fn memory(target: Target) -> IsaTest {
    isa_test("memory", target, NUMBERS.to_vec(), |t| {
        parameters(t);
        through_shared(t);
        vectors::<U32>(t);
        vectors::<B32>(t);
        vectors::<F32>(t);
        long_vectors(t);
        addresses(t);
        t.asm.step("atomics in global memory");
        // The output is writable memory: the value that an atomic leaves behind is also a result.
        atomics(t, |t, start, what, after| {
            let at = t.output_slot::<U32>(what, 0.0, after);
            at.store(start);
            at
        });
        t.asm.step("atomics in shared memory");
        let words = t.asm.shared::<U32>(super::LANES);
        atomics(t, |t, start, _, _| {
            let at = words.at(t.lane);
            at.store(start);
            at
        });
        wide_atomics(t);
    })
}

fn parameters(t: &Guide) {
    t.asm.step("parameters");
    t.check("ld.param.u32", t.asm.parameter_u32("n"), |_| NUMBERS[0]);
    t.check("ld.param.s32", t.asm.parameter_s32("s"), |_| -5);
    t.check("ld.param.f32", t.asm.parameter_f32("f"), |_| 1.5);
}

/// A value of each type, from global memory to shared memory, from there to the output.
fn through_shared(t: &Guide) {
    fn pass<T: Word>(t: &Guide, value: impl Fn(u32) -> T::Host + Copy) {
        let at = t.asm.shared::<T>(super::LANES).at(t.lane);
        at.store(t.give::<T>(value));
        t.check(&format!("ld.shared.{}", T::BITS), at.load(), value);
    }
    t.asm.step("every type, through shared memory");
    pass::<U16>(t, |l| 0xF00D ^ l as u16);
    pass::<U32>(t, |l| 0xDEAD_BEEF ^ l);
    pass::<U64>(t, |l| 0x0123_4567_89AB_CDEF ^ u64::from(l));
    pass::<S32>(t, |l| -(l as i32));
    pass::<S64>(t, |l| -i64::from(l));
    pass::<F16>(t, |l| 0x3C00 + l as u16);
    pass::<F16x2>(t, |l| [0x3C00, 0x3C00 + l as u16]);
    pass::<F32>(t, |l| l as f32 * 0.1);
    pass::<F64>(t, |l| f64::from(l) * 0.1);
    pass::<B32>(t, |l| !l);
    // A load widens bytes to 32 bits; a store writes the low 8 bits.
    let byte = t.asm.shared::<U8>(super::LANES).at(t.lane);
    byte.store(t.lane + 0x1F0);
    t.check("ld.shared.u8", byte.load(), |l| (l + 0x1F0) & 0xFF);
    let (short, long) =
        (t.asm.shared::<B16>(super::LANES).at(t.lane), t.asm.shared::<B64>(super::LANES).at(t.lane));
    short.store(t.give::<U16>(|l| l as u16).bits_as::<B16>());
    t.check("ld.shared.b16", short.load().bits_as::<U16>(), |l| l as u16);
    long.store(t.give::<U64>(|l| u64::from(l) << 40).bits_as::<B64>());
    t.check("ld.shared.b64", long.load().bits_as::<U64>(), |l| u64::from(l) << 40);
}

/// Two words of the input and of the output per lane, 16 bytes in one access, in every vector and with every hint.
fn vectors<T: InMemory<Loaded = T>>(t: &Guide) {
    let word = |i: u32| 0x3F10_2030_4050_6070u64 + u64::from(i) * 0x1_0000_0001;
    let hinted = [
        (Hint::Default, "global"),
        (Hint::ReadOnly, "global.nc"),
        (Hint::Streaming, "global.cs"),
        (Hint::L2, "global.cg"),
    ];
    // Lane l's own 8 bytes are word l of two slots of 32; its 16 bytes start at word 2l.
    let wider = t.lane << 3;
    let from = || {
        let first = t.input_slot::<U64>(word).at_byte(wider);
        t.input_slot::<U64>(|l| word(l + super::LANES));
        first.cast::<T>()
    };
    let to = |what: &str| {
        let first = t.output_slot::<U64>(what, 0.0, word).at_byte(wider);
        t.output_slot::<U64>(what, 0.0, |l| word(l + super::LANES));
        first.cast::<T>()
    };
    t.asm.step(&format!("vectors of {} and hints", T::BITS));
    for (hint, what) in hinted {
        let (from, to_four) = (from(), to(&format!("ld.{what}.v4.{}", T::BITS)));
        to_four.store_hinted(from.load_hinted::<4>(hint), hint);
        let to_pairs = to(&format!("ld.{what}.v2.{}", T::BITS));
        to_pairs.store_hinted(from.load_hinted::<2>(hint), hint);
        to_pairs.plus(2).store_hinted(from.plus(2).load_hinted::<2>(hint), hint);
        let to_ones = to(&format!("ld.{what}.{}", T::BITS));
        for i in 0..4 {
            to_ones.plus(i).store_hinted(from.plus(i).load_hinted::<1>(hint), hint);
        }
    }
    let (from, room) = (from(), t.asm.shared::<T>(4 * super::LANES).at(t.lane * 4));
    room.store_vector(from.load_vector::<4>());
    to(&format!("ld.shared.v4.{}", T::BITS)).store_vector(room.load_vector::<4>());
    room.plus(2).store_vector(from.load_vector::<2>());
    room.store_vector(from.plus(2).load_vector::<2>());
    let swapped = to(&format!("ld.shared.v2.{}", T::BITS));
    swapped.store_vector(room.plus(2).load_vector::<2>());
    swapped.plus(2).store_vector(room.load_vector::<2>());
}

/// Vectors of two elements.
fn long_vectors(t: &Guide) {
    let value = |l: u32| f64::from(l) * 1.1;
    let wide = t.asm.shared::<F64>(2 * super::LANES).at(t.lane * 2);
    wide.store_vector([t.give::<F64>(value), t.asm.value::<F64>(2.5)]);
    let [first, second] = wide.load_vector();
    t.check("ld.shared.v2.f64", first, value);
    t.check("ld.shared.v2.f64, second", second, |_| 2.5);
    // The bytes of a word, one by one.
    let word = t.input_slot::<U32>(|l| 0x8040_2010 + l);
    let copy = t.output_slot::<U32>("ld.global.u8", 0.0, |l| 0x8040_2010 + l);
    for i in 0..4 {
        copy.cast::<U8>().plus(i).store(word.cast::<U8>().plus(i).load());
    }
}

/// Different addresses of the same element.
fn addresses(t: &Guide) {
    t.asm.step("addresses");
    let value = |l: u32| l * 3 + 1;
    let first = t.input_slot::<U32>(value);
    // The slots are 8 bytes apart, and the address is the lane's own: go back to lane 0 and forward again.
    let back = t.asm.value::<U64>(0) - t.lane.to::<U64>();
    let start = first.cast::<U64>().at_wide(back);
    t.check("at_wide", start.at(t.lane).cast::<U32>().load(), value);
    t.check("at_byte", start.at_byte(t.lane << 3).cast::<U32>().load(), value);
    t.check("a negative offset", start.at(t.lane + 1).plus(-1).cast::<U32>().load(), value);
    let moving = start.to_var();
    moving.add(t.lane.to::<U64>() * 8);
    t.check("a moving address", Global::<U32>::follow(moving).load(), value);
    let shared = t.asm.shared::<U32>(super::LANES);
    shared.at(t.lane).store(t.lane);
    t.asm.barrier();
    let across = shared.at_byte((-t.lane.bits_as::<S32>() + 31).bits_as::<U32>() << 2);
    t.check("at_byte in shared memory", across.load(), |l| 31 - l);
    let number = shared.plus(3).to_u32();
    t.check("an address as a number", crate::ptx::Shared::<U32>::from_u32(number).load(), |_| 3);
}

/// Result of an atomic for the old value and its operand.
type After = fn(u32, u32) -> u32;

/// Every operation, one word per lane, so that the order of lanes does not matter. `place` returns a word that holds
/// `start` and registers the value it must hold afterwards.
fn atomics<'a, S: Space>(
    t: &Guide<'a>,
    place: impl Fn(&Guide<'a>, Reg<'a, U32>, &str, &dyn Fn(u32) -> u32) -> Pointer<'a, S, U32>,
) {
    let start = |l: u32| 0x50 + l;
    let cases: [(AtomicOp, After); 7] = [
        (AtomicOp::Add, |old, x| old + x),
        (AtomicOp::Min, u32::min),
        (AtomicOp::Max, u32::max),
        (AtomicOp::Or, |old, x| old | x),
        (AtomicOp::And, |old, x| old & x),
        (AtomicOp::Exchange, |_, x| x),
        (AtomicOp::Increment, |old, x| if old >= x { 0 } else { old + 1 }),
    ];
    for (op, after) in cases {
        let what = format!("atom.{}.{op:?}", S::NAME);
        let at = place(t, t.lane + 0x50, &what, &|l| after(start(l), 0x60));
        t.check(&format!("{what}, before"), t.asm.atomic(op, at, 0x60), start);
        t.check(&format!("{what}, after"), at.load(), |l| after(start(l), 0x60));
        if op != AtomicOp::Exchange {
            let what = format!("red.{}.{op:?}", S::NAME);
            let at = place(t, t.lane + 0x50, &what, &|l| after(start(l), 0x60));
            t.asm.reduce(op, at, 0x60);
            t.check(&what, at.load(), |l| after(start(l), 0x60));
        }
    }
    let what = format!("atom.{}.cas", S::NAME);
    let swapped = |l: u32| if start(l) == 0x55 { 9 } else { start(l) };
    let at = place(t, t.lane + 0x50, &what, &swapped);
    t.check(&format!("{what}, before"), t.asm.compare_and_swap(at, 0x55, 9), start);
    t.check(&format!("{what}, after"), at.load(), swapped);
}

/// The other types that atomics support.
fn wide_atomics(t: &Guide) {
    fn apply<'a, T: Word + Integer>(
        t: &Guide<'a>,
        op: AtomicOp,
        start: impl Fn(u32) -> T::Host,
        by: impl Operand<'a, T>,
        after: impl Fn(u32) -> T::Host,
    ) {
        let what = format!("atom.{op:?}.{}", T::NAME);
        let at = t.output_slot::<T>(&what, 0.0, after);
        at.store(t.give::<T>(&start));
        t.check(&format!("{what}, before"), t.asm.atomic(op, at, by), start);
    }
    t.asm.step("atomics of other types");
    let (long, signed) = (|l: u32| u64::from(l) << 33, |l: u32| l as i32 - 16);
    apply::<U64>(t, AtomicOp::Add, long, 1u64 << 32, |l| long(l) + (1 << 32));
    apply::<U64>(t, AtomicOp::Min, long, 1u64 << 36, |l| long(l).min(1 << 36));
    apply::<U64>(t, AtomicOp::Max, long, 1u64 << 36, |l| long(l).max(1 << 36));
    apply::<U64>(t, AtomicOp::Or, long, 3u64, |l| long(l) | 3);
    apply::<U64>(t, AtomicOp::And, long, 1u64 << 35, |l| long(l) & 1 << 35);
    apply::<U64>(t, AtomicOp::Exchange, long, 5u64, |_| 5);
    apply::<S32>(t, AtomicOp::Add, signed, -3, |l| signed(l) - 3);
    apply::<S32>(t, AtomicOp::Min, signed, -3, |l| signed(l).min(-3));
    apply::<S32>(t, AtomicOp::Max, signed, -3, |l| signed(l).max(-3));
    apply::<S64>(t, AtomicOp::Min, |l| signed(l).into(), -3i64, |l| signed(l).min(-3).into());
    apply::<S64>(t, AtomicOp::Max, |l| signed(l).into(), -3i64, |l| signed(l).max(-3).into());
}
