//! Tests of control flow, and of instructions that a warp's lanes run together.

use super::{Guide, IsaTest, LANES, isa_test};
use crate::{
    Target,
    ptx::{B32, F16x2, F32, F64, S32, U32},
};

/// The test of branches, loops, predicates, shuffles, votes, barriers, special registers.
pub fn together(target: Target) -> IsaTest {
    isa_test("together", target, vec![], |t| {
        places(t);
        flow(t);
        shuffles(t);
        votes(t);
        barriers(t);
        leaving(t);
    })
}

fn places(t: &Guide) {
    t.asm.step("where a thread is");
    for axis in 0..3 {
        t.check("%tid", t.asm.thread(axis), |l| if axis == 0 { l } else { 0 });
        t.check("%ctaid", t.asm.block(axis), |_| 0);
        t.check("%ntid", t.asm.block_size(axis), |_| if axis == 0 { LANES } else { 1 });
        t.check("%nctaid", t.asm.grid_size(axis), |_| 1);
    }
    t.check("%laneid", t.asm.lane(), |l| l);
    t.check("the thread of the grid", t.asm.global_thread(), |l| l);
}

fn flow(t: &Guide) {
    let asm = t.asm;
    asm.step("branches");
    let x = asm.var::<U32>(1);
    asm.if_(t.lane.lt(9), || x.set(2));
    t.check("if", x.get(), |l| if l < 9 { 2 } else { 1 });
    asm.if_else((t.lane & 1).eq(0), || asm.if_else(t.lane.lt(16), || x.set(3), || x.set(4)), || x.set(5));
    t.check("if else", x.get(), |l| if l % 2 == 1 { 5 } else { 3 + l / 16 });
    asm.step("loops");
    let sum = asm.var::<U32>(0);
    asm.for_range(t.lane, 40, 3, |i| sum.add(i));
    t.check("for", sum.get(), |l| (l..40).step_by(3).sum());
    asm.for_range(40, t.lane, 1, |i| sum.add(i));
    t.check("for of nothing", sum.get(), |l| (l..40).step_by(3).sum());
    let steps = asm.var::<U32>(0);
    let n = asm.var(t.lane + 1);
    asm.while_(
        || n.get().ne(1),
        || {
            asm.if_else((n.get() & 1).eq(0), || n.set(n.get() >> 1), || n.set(n.get().mad(3, 1)));
            steps.add(1);
        },
    );
    t.check("while", steps.get(), collatz);
    asm.step("predicates instead of branches");
    let y = asm.var::<U32>(0);
    asm.when(t.lane.lt(20), || {
        y.set(1);
        asm.when(t.lane.ge(10), || y.set(2));
        y.add(10);
    });
    t.check("when", y.get(), |l| match l {
        0..10 => 11,
        10..20 => 12,
        _ => 0,
    });
    let ring = asm.var::<U32>(t.lane & 3);
    ring.advance_ring(4);
    t.check("a ring's index", ring.get(), |l| (l + 1) % 4);
}

/// Steps of 3n + 1 from l + 1 to 1.
fn collatz(l: u32) -> u32 {
    let next = |n: &u32| (*n != 1).then(|| if n.is_multiple_of(2) { n / 2 } else { 3 * n + 1 });
    std::iter::successors(Some(l + 1), next).count() as u32 - 1
}

fn shuffles(t: &Guide) {
    t.asm.step("shuffles");
    let value = |l: u32| l * 17 + 3;
    let x = t.give::<U32>(value);
    t.check("shfl.bfly", x.shuffle_xor(5), |l| value(l ^ 5));
    t.check("shfl.down", x.shuffle_down(7), |l| value(if l + 7 < LANES { l + 7 } else { l }));
    t.check("shfl.up", x.shuffle_up(7), |l| value(l.checked_sub(7).unwrap_or(l)));
    t.check("shfl.idx", x.shuffle_from(11), |_| value(11));
    t.check("shfl.idx by lane", x.shuffle_from(t.lane >> 1), |l| value(l / 2));
    t.check("shfl of f32", x.bits_as::<F32>().shuffle_xor(1).bits_as::<U32>(), |l| value(l ^ 1));
    t.check("shfl of s32", x.bits_as::<S32>().shuffle_xor(2).bits_as::<U32>(), |l| value(l ^ 2));
    t.check("shfl of b32", x.bits_as::<B32>().shuffle_xor(4).bits_as::<U32>(), |l| value(l ^ 4));
    t.check("shfl of f16x2", x.bits_as::<F16x2>().shuffle_xor(8).bits_as::<U32>(), |l| value(l ^ 8));
    let wide = |l: u32| f64::from(l) * 1.7 - 4.0;
    t.check("shfl of f64", t.give::<F64>(wide).shuffle_xor(16), |l| wide(l ^ 16));
}

fn votes(t: &Guide) {
    t.asm.step("votes");
    let third = t.asm.divide(t.lane, 3).1.mad(1, 0).eq(0);
    t.holds("vote.any", t.asm.any(third), |_| true);
    t.holds("vote.any of none", t.asm.any(t.lane.gt(31)), |_| false);
    t.holds("vote.all", t.asm.all(third), |_| false);
    t.holds("vote.all of all", t.asm.all(t.lane.le(31)), |_| true);
    t.check("vote.ballot", t.asm.ballot(third), |_| (0..LANES).step_by(3).map(|l| 1 << l).sum());
}

/// A word of the opposite lane, read after each kind of barrier.
fn barriers(t: &Guide) {
    t.asm.step("barriers");
    let words = t.asm.shared::<U32>(LANES);
    let kinds: [(&str, &dyn Fn()); 3] = [
        ("bar.sync", &|| t.asm.barrier()),
        ("bar.sync of some", &|| t.asm.barrier_of(1, LANES)),
        ("bar.warp.sync", &|| t.asm.warp_barrier()),
    ];
    for (turn, (what, wait)) in (1u32..).zip(kinds) {
        words.at(t.lane).store(t.lane * turn);
        wait();
        t.check(what, words.at(t.lane ^ 31).load(), |l| (l ^ 31) * turn);
        wait();
    }
    t.asm.fence();
}

/// Some lanes exit early; this must be the last instruction of the test.
fn leaving(t: &Guide) {
    t.asm.step("the upper half ends");
    let last = t.output_slot::<U32>("exit", 0.0, |l| if l < 16 { 2 } else { 1 });
    last.store(1);
    t.asm.exit_if(t.lane.ge(16));
    last.store(2);
}
