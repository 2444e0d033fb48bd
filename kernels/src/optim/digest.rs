//! A digest of an arena, to compare arenas that should be equal bit by bit.

use crate::{
    Kernel, Target, Work,
    ptx::{Asm, Global, Launch, Reg, U32},
};

/// Sums of a digest; as many threads.
pub const DIGESTS: u32 = 1 << 15;

/// Threads of a block.
const BLOCK: u32 = 256;

/// partials[t] = Σ word[i]·(2i + 1) mod 2³² over i = t, t + [`DIGESTS`], … of `n` words. Odd factors have inverses modulo 2³²:
/// a single word that differs changes its sum whatever bits differ, and two that change places do unless they are half of 2³²
/// apart.
///
/// Parameters: words (`n` u32), partials ([`DIGESTS`] u32). Reads 4 bytes a word: bound by memory.
pub fn digest(n: u32, target: Target) -> Kernel {
    let launch = Launch::new("digest", format!("digest_n{n}"), target).threads(BLOCK, DIGESTS.into());
    let work = Work { bytes: 4 * (u64::from(n) + u64::from(DIGESTS)), operations: 2 * u64::from(n) };
    Asm::kernel(launch, work, "partials[t] = sums of words times odd numbers", |asm| {
        let (words, partials) = (asm.pointer::<U32>("words"), asm.pointer::<U32>("partials"));
        let thread = asm.global_thread();
        let sum = asm.var::<U32>(0);
        let whole = n / DIGESTS * DIGESTS;
        if whole > 0 {
            asm.for_range(0, whole, DIGESTS, |offset| sum.add(term(words, thread + offset)));
        }
        if n > whole {
            asm.step("the last words");
            asm.if_(thread.lt(n - whole), || sum.add(term(words, thread + whole)));
        }
        partials.at(thread).store(sum.get());
    })
}

/// Word `index` times 2·`index` + 1.
fn term<'a>(words: Global<'a, U32>, index: Reg<'a, U32>) -> Reg<'a, U32> {
    words.at(index).load() * ((index << 1) + 1)
}
