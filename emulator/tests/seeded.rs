//! A planted bug of every kind: it must be caught, at its line, in its block and thread; without it the kernel passes.

use ssmv_emulator::{Error, FaultKind, LaunchConfig, Memory, Module, Options, Report, args, launch};

/// A kernel with a bug.
struct Bug {
    name: &'static str,
    kind: FaultKind,
    /// The kernel's statements; the faulty instruction stands alone on the line that holds `// here`.
    body: &'static str,
    /// What to put for which part of the text to mend it.
    mend: (&'static str, &'static str),
    grid: u32,
    threads: u32,
    block: u32,
    thread: u32,
}

const PREFIX: &str = "
.version 8.0
.target sm_80
.address_size 64
.visible .entry buggy(.param .u64 in, .param .u64 out)
{
    .shared .align 16 .b8 tile[4096];
    .local .align 8 .b8 own[32];
    .reg .pred %p<8>;
    .reg .b32 %r<40>;
    .reg .f32 %f<8>;
    .reg .b64 %rd<16>;
    ld.param.u64 %rd0, [in];
    ld.param.u64 %rd1, [out];
    mov.u32 %r0, %tid.x;
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mad.lo.u32 %r3, %r1, %r2, %r0;
    mul.wide.u32 %rd2, %r3, 4;
    add.u64 %rd3, %rd0, %rd2;
    add.u64 %rd4, %rd1, %rd2;
    mov.u32 %r4, tile;
    mad.lo.u32 %r5, %r0, 4, %r4;
";

fn text(body: &str) -> String {
    format!("{PREFIX}{body}\n    ret;\n}}\n")
}

/// Input: one word a thread, all written; output: as many, none written.
fn run(text: &str, grid: u32, threads: u32, budget: u64) -> Result<Report, Error> {
    let memory = Memory::new(1 << 20);
    let module = Module::parse("buggy.ptx", text)?.load(&memory)?;
    let words = (grid * threads) as usize;
    let (input, output) = (memory.alloc(words * 4)?, memory.alloc(words * 4)?);
    memory.fill(input, 1, words * 4)?;
    let config = LaunchConfig { grid: [grid, 1, 1], block: [threads, 1, 1], shared: 0 };
    let options = Options { budget, ..Options::default() };
    launch(&memory, &module, "buggy", &config, &args![input, output], &options)
}

fn check(bugs: &[Bug]) {
    for bug in bugs {
        let broken = text(bug.body);
        let at = broken.lines().position(|l| l.contains("// here")).expect("a marked line") as u32 + 1;
        let error = run(&broken, bug.grid, bug.threads, 1 << 20).expect_err(bug.name);
        let Error::Kernel { kernel, line, text: found, block, thread, fault } = &error else {
            panic!("{}: {error}", bug.name)
        };
        assert_eq!(fault.kind, bug.kind, "{}: {error}", bug.name);
        assert_eq!((kernel.as_str(), *line), ("buggy", at), "{}: {error}", bug.name);
        assert_eq!(*block, [bug.block, 0, 0], "{}: {error}", bug.name);
        assert_eq!(*thread, [bug.thread, 0, 0], "{}: {error}", bug.name);
        let marked = broken.lines().nth(at as usize - 1).expect("the line");
        assert!(marked.contains(found.as_str()), "{}: {found}", bug.name);
        assert!(bug.body.contains(bug.mend.0), "{}: nothing to mend", bug.name);
        let mended = text(&bug.body.replace(bug.mend.0, bug.mend.1));
        if let Err(error) = run(&mended, bug.grid, bug.threads, 1 << 20) {
            panic!("{}, mended: {error}", bug.name);
        }
    }
}

#[test]
fn memory() {
    check(&[
        Bug {
            name: "a load past the end",
            kind: FaultKind::OutOfBounds,
            body: "
    ld.global.u32 %r6, [%rd3+4]; // here
    st.global.u32 [%rd4], %r6;",
            mend: ("+4", ""),
            grid: 3,
            threads: 48,
            block: 2,
            thread: 47,
        },
        Bug {
            name: "a store before the start",
            kind: FaultKind::OutOfBounds,
            body: "
    st.global.u32 [%rd4+-4], %r0; // here",
            mend: ("+-4", ""),
            grid: 2,
            threads: 32,
            block: 0,
            thread: 0,
        },
        Bug {
            name: "a null pointer",
            kind: FaultKind::OutOfBounds,
            body: "
    mov.u64 %rd5, 0;
    setp.eq.u32 %p0, %r0, 5;
    @%p0 ld.global.u32 %r6, [%rd5]; // here",
            mend: ("[%rd5]", "[%rd3]"),
            grid: 2,
            threads: 32,
            block: 0,
            thread: 5,
        },
        Bug {
            name: "shared memory past the end",
            kind: FaultKind::OutOfBounds,
            body: "
    st.shared.u32 [%r5+3972], %r0; // here",
            mend: ("+3972", "+3968"),
            grid: 1,
            threads: 32,
            block: 0,
            thread: 31,
        },
        Bug {
            name: "local memory past the end",
            kind: FaultKind::OutOfBounds,
            body: "
    st.local.u64 [own+32], %rd0; // here",
            mend: ("+32", "+24"),
            grid: 1,
            threads: 32,
            block: 0,
            thread: 0,
        },
        Bug {
            name: "a pair of words at an odd word",
            kind: FaultKind::Misaligned,
            body: "
    and.b32 %r6, %r0, 1;
    setp.eq.u32 %p0, %r6, 1;
    @%p0 ld.global.v2.u32 {%r7, %r8}, [%rd3]; // here",
            mend: ("%r6, 1;", "%r6, 2;"),
            grid: 1,
            threads: 64,
            block: 0,
            thread: 1,
        },
        Bug {
            name: "shared memory at an odd byte",
            kind: FaultKind::Misaligned,
            body: "
    st.shared.u16 [%r5+1], 0; // here",
            mend: ("+1", "+2"),
            grid: 1,
            threads: 64,
            block: 0,
            thread: 0,
        },
        Bug {
            name: "output that nothing wrote",
            kind: FaultKind::UninitialisedMemory,
            body: "
    setp.ne.u32 %p0, %r0, 7;
    @%p0 st.global.u32 [%rd4], %r0;
    ld.global.u32 %r6, [%rd4]; // here",
            mend: ("@%p0 st", "st"),
            grid: 2,
            threads: 32,
            block: 0,
            thread: 7,
        },
        Bug {
            name: "shared memory that nothing wrote",
            kind: FaultKind::UninitialisedMemory,
            body: "
    st.shared.u32 [%r5], %r0;
    ld.shared.u32 %r6, [%r5+64]; // here",
            mend: ("+64", ""),
            grid: 1,
            threads: 32,
            block: 0,
            thread: 16,
        },
        Bug {
            name: "local memory that nothing wrote",
            kind: FaultKind::UninitialisedMemory,
            body: "
    st.local.u32 [own], %r0;
    ld.local.u32 %r6, [own+4]; // here",
            mend: ("+4", ""),
            grid: 1,
            threads: 32,
            block: 0,
            thread: 0,
        },
    ]);
}

#[test]
fn registers() {
    check(&[
        Bug {
            name: "a register that nothing wrote",
            kind: FaultKind::UninitialisedRegister,
            body: "
    add.u32 %r7, %r6, 1; // here",
            mend: ("%r6", "%r0"),
            grid: 2,
            threads: 32,
            block: 0,
            thread: 0,
        },
        Bug {
            name: "a register that one path does not write",
            kind: FaultKind::UninitialisedRegister,
            body: "
    setp.ge.u32 %p0, %r0, 40;
    @%p0 bra SKIP;
    mov.u32 %r6, 1;
SKIP:
    st.global.u32 [%rd4], %r6; // here",
            mend: ("SKIP:", "SKIP: @%p0 mov.u32 %r6, 2;"),
            grid: 1,
            threads: 64,
            block: 0,
            thread: 40,
        },
        Bug {
            name: "a predicate that nothing wrote",
            kind: FaultKind::UninitialisedRegister,
            body: "
    @%p1 add.u32 %r7, %r0, 1; // here",
            mend: ("@%p1 ", ""),
            grid: 1,
            threads: 32,
            block: 0,
            thread: 0,
        },
        Bug {
            name: "an address that nothing wrote",
            kind: FaultKind::UninitialisedRegister,
            body: "
    ld.global.u32 %r6, [%rd9]; // here",
            mend: ("%rd9", "%rd3"),
            grid: 1,
            threads: 32,
            block: 0,
            thread: 0,
        },
    ]);
}

#[test]
fn races() {
    check(&[
        Bug {
            name: "a word changed before its neighbour has read it",
            kind: FaultKind::Race,
            body: "
    st.shared.u32 [%r5], 0;
    bar.sync 0;
    xor.b32 %r6, %r0, 32;
    mad.lo.u32 %r6, %r6, 4, %r4;
    ld.shared.u32 %r7, [%r6]; // here
    // barrier
    st.shared.u32 [%r5], %r7;",
            mend: ("// barrier", "bar.sync 0;"),
            grid: 1,
            threads: 64,
            block: 0,
            thread: 32,
        },
        Bug {
            name: "the next turn's store before all have read",
            kind: FaultKind::Race,
            body: "
    mov.u32 %r9, 0;
TURN:
    st.shared.u32 [%r5], %r0;
    bar.sync 0;
    xor.b32 %r6, %r0, 32;
    mad.lo.u32 %r6, %r6, 4, %r4;
    ld.shared.u32 %r7, [%r6]; // here
    // barrier
    add.u32 %r9, %r9, 1;
    setp.lt.u32 %p0, %r9, 3;
    @%p0 bra TURN;",
            mend: ("// barrier", "bar.sync 0;"),
            grid: 1,
            threads: 64,
            block: 0,
            thread: 32,
        },
        Bug {
            name: "a sum that two threads add to",
            kind: FaultKind::Race,
            body: "
    setp.eq.u32 %p0, %r0, 0;
    @%p0 st.shared.u32 [tile], 0;
    bar.sync 0;
    setp.eq.u32 %p1, %r0, 3;
    @%p1 st.shared.u32 [tile], 1;
    setp.eq.u32 %p2, %r0, 40;
    @%p2 st.shared.u32 [tile], 2; // here",
            mend: ("@%p2 st.shared.u32 [tile], 2", "@%p2 st.shared.u32 [tile+4], 2"),
            grid: 1,
            threads: 64,
            block: 0,
            thread: 40,
        },
    ]);
}

#[test]
fn barriers() {
    check(&[
        Bug {
            name: "a barrier in a branch that a part of a warp takes",
            kind: FaultKind::DivergentBarrier,
            body: "
    setp.ge.u32 %p0, %r0, 40;
    @%p0 bra AFTER;
    bar.sync 0; // here
AFTER:
    st.global.u32 [%rd4], %r0;",
            mend: ("@%p0 bra", "// bra"),
            grid: 1,
            threads: 64,
            block: 0,
            thread: 32,
        },
        Bug {
            name: "a guarded barrier",
            kind: FaultKind::DivergentBarrier,
            body: "
    setp.eq.u32 %p0, %r0, 0;
    @!%p0 bar.sync 0; // here",
            mend: ("@!%p0 ", ""),
            grid: 1,
            threads: 32,
            block: 0,
            thread: 1,
        },
        Bug {
            name: "other counts at one barrier",
            kind: FaultKind::DivergentBarrier,
            body: "
    mov.u32 %r6, 64;
    setp.ge.u32 %p0, %r0, 32;
    @%p0 mov.u32 %r6, 96;
    bar.sync 1, %r6; // here",
            mend: ("%r6, 96", "%r6, 64"),
            grid: 1,
            threads: 64,
            block: 0,
            thread: 32,
        },
        Bug {
            name: "warps at different barriers",
            kind: FaultKind::Deadlock,
            body: "
    mov.u32 %r6, 1;
    setp.ge.u32 %p0, %r0, 32;
    @%p0 mov.u32 %r6, 2;
    bar.sync %r6; // here",
            mend: ("%r6, 2", "%r6, 1"),
            grid: 1,
            threads: 64,
            block: 0,
            thread: 0,
        },
        Bug {
            name: "a barrier for more threads than come",
            kind: FaultKind::Deadlock,
            body: "
    bar.sync 1, 96; // here",
            mend: ("96", "64"),
            grid: 2,
            threads: 64,
            block: 0,
            thread: 0,
        },
    ]);
}

#[test]
fn copies() {
    check(&[
        Bug {
            name: "a copy read before its wait",
            kind: FaultKind::PendingCopy,
            body: "
    cp.async.ca.shared.global [%r5], [%rd3], 4;
    cp.async.commit_group;
    // wait
    ld.shared.u32 %r6, [%r5]; // here",
            mend: ("// wait", "cp.async.wait_group 0;"),
            grid: 1,
            threads: 32,
            block: 0,
            thread: 0,
        },
        Bug {
            name: "the wait leaves one group too many",
            kind: FaultKind::PendingCopy,
            body: "
    cp.async.ca.shared.global [%r5], [%rd3], 4;
    cp.async.commit_group;
    cp.async.ca.shared.global [%r5+2048], [%rd3], 4;
    cp.async.commit_group;
    cp.async.wait_group 1;
    ld.shared.u32 %r6, [%r5+2048]; // here",
            mend: ("wait_group 1", "wait_group 0"),
            grid: 1,
            threads: 64,
            block: 0,
            thread: 0,
        },
        Bug {
            name: "a pending copy overwritten",
            kind: FaultKind::PendingCopy,
            body: "
    cp.async.ca.shared.global [%r5], [%rd3], 4;
    cp.async.commit_group;
    // wait
    st.shared.u32 [%r5], %r0; // here
    cp.async.wait_all;",
            mend: ("// wait", "cp.async.wait_all;"),
            grid: 1,
            threads: 32,
            block: 0,
            thread: 0,
        },
        Bug {
            name: "a pending copy's source overwritten",
            kind: FaultKind::PendingCopy,
            body: "
    cp.async.ca.shared.global [%r5], [%rd3], 4;
    cp.async.commit_group;
    // wait
    st.global.u32 [%rd3], %r0; // here
    cp.async.wait_all;",
            mend: ("// wait", "cp.async.wait_all;"),
            grid: 1,
            threads: 32,
            block: 0,
            thread: 0,
        },
    ]);
}

#[test]
fn masks() {
    check(&[
        Bug {
            name: "ldmatrix by a part of a warp",
            kind: FaultKind::PartialMask,
            body: "
    st.shared.u32 [%r5], %r0;
    and.b32 %r6, %r0, 7;
    mad.lo.u32 %r6, %r6, 16, %r4;
    bar.sync 0;
    setp.lt.u32 %p0, %r0, 8;
    @!%p0 bra AFTER;
    ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r7}, [%r6]; // here
AFTER:",
            mend: ("@!%p0 bra", "// bra"),
            grid: 1,
            threads: 32,
            block: 0,
            thread: 0,
        },
        Bug {
            name: "mma in a block of fewer threads than a warp",
            kind: FaultKind::PartialMask,
            body: "
    setp.lt.u32 %p0, %r0, 30;
    mov.b32 %r6, 0;
    @%p0 mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f0, %f1, %f2, %f3}, {%r6, %r6}, {%r6}, {%r6, %r6, %r6, %r6}; // here",
            mend: ("@%p0 ", ""),
            grid: 1,
            threads: 32,
            block: 0,
            thread: 0,
        },
        Bug {
            name: "a shuffle that names lanes that went past it",
            kind: FaultKind::PartialMask,
            body: "
    setp.ge.u32 %p0, %r0, 16;
    @%p0 bra AFTER;
    shfl.sync.bfly.b32 %r6, %r0, 1, 31, -1; // here
AFTER:
    st.global.u32 [%rd4], %r0;",
            mend: ("-1;", "0xffff;"),
            grid: 1,
            threads: 32,
            block: 0,
            thread: 0,
        },
        Bug {
            name: "a vote that does not name its own lane",
            kind: FaultKind::PartialMask,
            body: "
    setp.ge.u32 %p0, %r0, 16;
    vote.sync.ballot.b32 %r6, %p0, 0xfffffff7; // here",
            mend: ("0xfffffff7", "0xffffffff"),
            grid: 1,
            threads: 32,
            block: 0,
            thread: 3,
        },
        Bug {
            name: "a shuffle from a thread that ended",
            kind: FaultKind::PartialMask,
            body: "
    setp.ge.u32 %p0, %r0, 24;
    @%p0 exit;
    shfl.sync.idx.b32 %r6, %r0, 30, 31, 0xffffffff; // here",
            mend: ("30, 31", "23, 31"),
            grid: 1,
            threads: 32,
            block: 0,
            thread: 0,
        },
    ]);
}

#[test]
fn ends() {
    check(&[
        Bug {
            name: "a trap",
            kind: FaultKind::Trap,
            body: "
    setp.eq.u32 %p0, %r3, 70;
    @%p0 trap; // here",
            mend: ("70", "700"),
            grid: 3,
            threads: 32,
            block: 2,
            thread: 6,
        },
        Bug {
            name: "a jump past the end of a table",
            kind: FaultKind::Trap,
            body: "
    mov.u32 %r6, 2;
    brx.idx %r6, TABLE; // here
TABLE: .branchtargets A, B;
A:
B:",
            mend: ("%r6, 2", "%r6, 1"),
            grid: 1,
            threads: 32,
            block: 0,
            thread: 0,
        },
        Bug {
            name: "a loop without end",
            kind: FaultKind::Budget,
            body: "
LOOP:
    bra LOOP; // here",
            mend: ("bra LOOP", "add.u32 %r6, %r0, 1"),
            grid: 1,
            threads: 32,
            block: 0,
            thread: 0,
        },
        Bug {
            name: "waiting for a flag that nobody sets",
            kind: FaultKind::Budget,
            body: "
LOOP: ld.acquire.gpu.global.u32 %r6, [%rd3]; setp.ne.u32 %p0, %r6, 0; @!%p0 bra LOOP; setp.eq.u32 %p1, %r6, 5; @!%p1 bra LOOP; // here",
            mend: ("%r6, 5", "%r6, 0x01010101"),
            grid: 1,
            threads: 32,
            block: 0,
            thread: 0,
        },
    ]);
}
