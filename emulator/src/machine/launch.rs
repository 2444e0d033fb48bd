//! Launches: checks arguments and limits, runs blocks in parallel or in order, locates errors.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::execute::{Block, BlockFailure, Failure, Launch, Progress};
use super::module::{EntryPoint, LoadedModule};
use super::program::{Callee, CodeAddress, Op, Program};
use crate::arguments::Arguments;
use crate::error::{Error, Fault, FaultKind, Result};
use crate::memory::Memory;
use crate::options::{LaunchConfig, Options};
use crate::report::Report;

/// Most threads of a block along each axis.
const BLOCK: [u32; 3] = [1024, 1024, 64];
/// Most threads of a block in total.
const THREADS: u64 = 1024;
/// Most blocks of a grid along each axis.
const GRID: [u32; 3] = [i32::MAX as u32, 65535, 65535];
/// Most static shared memory of a block in bytes.
const STATIC_SHARED: u32 = 48 << 10;
/// Most shared memory of a block in bytes, static and dynamic.
const SHARED: u64 = 227 << 10;
/// Local memory for recursive calls in bytes.
const RECURSION: u64 = 16 << 10;
/// Local memory for `alloca` in bytes.
const DYNAMIC: u64 = 16 << 10;
/// Most local memory of a thread in bytes.
const LOCAL: u64 = 512 << 10;
/// Number of blocks that take turns if their order could change a result.
const RESIDENT: u64 = 16;
/// Instructions per turn of a block.
const TURN: u64 = 1 << 16;

/// Runs a kernel over a grid; returns when it ends.
///
/// [`args!`](crate::args) makes the `arguments`, one for each parameter. Results, report and errors do not depend on the number
/// of cores: kernels whose result could depend on the order of blocks (atomics on global memory whose old value is used,
/// floating-point atomics, volatile and acquiring loads) run their blocks in order, taking turns.
///
/// # Errors
/// [`Error::Usage`] names a wrong argument or an exceeded limit. [`Error::Kernel`] is the kernel's own error; if several
/// blocks fail, it is that of the first in the grid.
pub fn launch(
    memory: &Memory,
    module: &LoadedModule,
    kernel: &str,
    config: &LaunchConfig,
    arguments: &Arguments,
    options: &Options,
) -> Result<Report> {
    let inner = &*module.inner;
    let Some(index) = inner.kernels.iter().position(|k| k.info.name == kernel) else {
        let names: Vec<&str> = inner.kernels.iter().map(|k| k.info.name.as_str()).collect();
        return Err(Error::Usage(format!(
            "{} has no kernel {kernel}; it has: {}",
            inner.name,
            names.join(", ")
        )));
    };
    let (found, program) = (&inner.kernels[index], &module.programs[index]);
    let shared = limits(found, config)?;
    let parameters = parameters(found, arguments)?;
    let local = local_bytes(program);
    let heap = module.heap.as_ref().filter(|_| program.heap);
    let launch = Launch { program, memory, parameters: &parameters, heap, config, options, shared, local };
    let blocks = config.grid.iter().map(|&n| u64::from(n)).product();
    let outcome = if found.ordered { in_order(&launch, blocks)? } else { in_parallel(&launch, blocks)? };
    outcome.map_err(|failure| {
        let BlockFailure { failure, block, thread } = *failure;
        let CodeAddress { routine, pc } = failure.at;
        let span = program.routines.get(routine).and_then(|r| r.spans.get(pc as usize)).copied();
        let (line, text) = match span {
            Some(span) => (span.line, inner.text.get(span.start..span.end).unwrap_or("")),
            None => (0, ""),
        };
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Error::Kernel { kernel: kernel.to_owned(), line, text, block, thread, fault: Box::new(failure.fault) }
    })
}

/// Checks the limits of the hardware and the kernel; returns the bytes of shared memory of a block.
fn limits(kernel: &EntryPoint, config: &LaunchConfig) -> Result<u32> {
    let name = &kernel.info.name;
    let usage = |message: String| Err(Error::Usage(format!("{name}: {message}")));
    for (axis, letter) in ["x", "y", "z"].into_iter().enumerate() {
        let (grid, block) = (config.grid[axis], config.block[axis]);
        if grid == 0 || grid > GRID[axis] {
            return usage(format!(
                "a grid of {grid} blocks along {letter}; 1 to {} are possible",
                GRID[axis]
            ));
        }
        if block == 0 || block > BLOCK[axis] {
            return usage(format!(
                "a block of {block} threads along {letter}; 1 to {} are possible",
                BLOCK[axis]
            ));
        }
    }
    let threads: u64 = config.block.iter().map(|&n| u64::from(n)).product();
    if threads > THREADS {
        return usage(format!("a block of {threads} threads; at most {THREADS} are possible"));
    }
    if let Some(required) = kernel.info.required_block
        && required != config.block
    {
        return usage(format!("a block of {:?}; the kernel requires {required:?} (.reqntid)", config.block));
    }
    if let Some(most) = kernel.info.max_threads
        && threads > u64::from(most)
    {
        return usage(format!("a block of {threads} threads; the kernel allows {most} (.maxntid)"));
    }
    if kernel.cluster.iter().any(|&n| n > 1) {
        let message =
            format!("clusters of {:?} blocks (.reqnctapercluster) are not supported", kernel.cluster);
        return usage(message);
    }
    let fixed = kernel.info.static_shared;
    if fixed > STATIC_SHARED {
        return usage(format!("{fixed} bytes of static shared memory; at most {STATIC_SHARED} are possible"));
    }
    let total = u64::from(fixed) + u64::from(config.shared);
    if total > SHARED {
        return usage(format!(
            "{total} bytes of shared memory ({fixed} static, {} dynamic); at most {SHARED} are possible",
            config.shared
        ));
    }
    Ok(total as u32)
}

/// The bytes of the parameters, each at its alignment.
fn parameters(kernel: &EntryPoint, arguments: &Arguments) -> Result<Vec<u8>> {
    let (name, wanted) = (&kernel.info.name, &kernel.info.parameters);
    if let Some(missing) = wanted.get(arguments.len()) {
        return Err(Error::Usage(format!(
            "{name} takes {} arguments, not {}: {} is missing",
            wanted.len(),
            arguments.len(),
            missing.name
        )));
    }
    if arguments.len() > wanted.len() {
        return Err(Error::Usage(format!(
            "{name} takes {} arguments, not {}",
            wanted.len(),
            arguments.len()
        )));
    }
    let mut bytes = Vec::new();
    for (parameter, argument) in wanted.iter().zip(arguments.iter()) {
        if argument.len() != parameter.bytes {
            return Err(Error::Usage(format!(
                "{name}: parameter {} has {} bytes, not {}",
                parameter.name,
                parameter.bytes,
                argument.len()
            )));
        }
        bytes.resize(bytes.len().next_multiple_of(parameter.align.max(1)), 0);
        bytes.extend_from_slice(argument);
    }
    Ok(bytes)
}

/// Local memory that a thread needs: the frames of the longest chain of calls, and more where functions call themselves or
/// through registers.
fn local_bytes(program: &Program) -> u32 {
    let frames: u64 = program.routines.iter().map(|r| r.frame.next_multiple_of(16)).sum();
    let later = |caller: usize, op: &Op| match op {
        Op::Call(call) => match call.callee {
            // Routines have the order of their first calls, so a call backwards may be recursion.
            Callee::Direct(routine) => routine <= caller,
            Callee::Indirect(_) => true,
        },
        _ => false,
    };
    let calls = program.routines.iter().enumerate();
    let recursive =
        calls.flat_map(|(at, r)| r.code.iter().map(move |i| (at, i))).any(|(at, i)| later(at, &i.op));
    let takes = program.routines.iter().flat_map(|r| &r.code).any(|i| matches!(i.op, Op::Alloca(..)));
    let more = u64::from(recursive) * RECURSION + u64::from(takes) * DYNAMIC;
    (program.locals + frames + more).min(LOCAL) as u32
}

/// The report of a grid, or its first failure.
type GridResult = Result<Report, Box<BlockFailure>>;

/// Runs blocks on all cores. Cores take them in order, so all blocks before the first that fails run to their end.
fn in_parallel(launch: &Launch<'_>, blocks: u64) -> Result<GridResult> {
    let threads = match launch.options.threads {
        0 => rayon::current_num_threads(),
        n => n,
    };
    let workers = (threads as u64).min(blocks).max(1) as usize;
    let next = AtomicU64::new(0);
    let limit = AtomicU64::new(blocks);
    let used = AtomicU64::new(0);
    let first: Mutex<Option<(u64, Box<BlockFailure>)>> = Mutex::new(None);
    let total = Mutex::new(Report::default());
    let work = || -> Result<()> {
        let mut block = Block::new(launch)?;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= limit.load(Ordering::Relaxed) {
                break;
            }
            block.start(index);
            let result = finish(&mut block);
            if used.fetch_add(block.executed(), Ordering::Relaxed) + block.executed() > launch.options.budget
            {
                limit.store(0, Ordering::Relaxed);
            }
            if let Err(failure) = result {
                limit.fetch_min(index, Ordering::Relaxed);
                let mut first = first.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if first.as_ref().is_none_or(|(other, _)| index < *other) {
                    *first = Some((index, failure));
                }
            }
        }
        *total.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += block.report();
        Ok(())
    };
    let errors: Mutex<Option<Error>> = Mutex::new(None);
    let guarded = || {
        if let Err(error) = work() {
            *errors.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
        }
    };
    if workers == 1 {
        guarded();
    } else {
        rayon::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|_| guarded());
            }
        });
    }
    if let Some(error) = errors.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        return Err(error);
    }
    let first = first.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let total = total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(match first {
        Some((_, failure)) => Err(failure),
        None if used.into_inner() > launch.options.budget => Err(over_budget(launch.options.budget)),
        None => Ok(total),
    })
}

fn finish(block: &mut Block<'_>) -> Result<(), Box<BlockFailure>> {
    while block.run(u64::MAX)? == Progress::Paused {}
    Ok(())
}

/// Runs blocks on one core, several in turns, so that a block may wait for a value that another block writes.
fn in_order(launch: &Launch<'_>, blocks: u64) -> Result<GridResult> {
    let mut total = Report::default();
    let mut used = 0u64;
    let mut running: Vec<Block<'_>> = Vec::new();
    let mut idle: Vec<Block<'_>> = Vec::new();
    let mut next = 0;
    loop {
        while next < blocks && (running.len() as u64) < RESIDENT {
            let mut block = match idle.pop() {
                Some(block) => block,
                None => Block::new(launch)?,
            };
            block.start(next);
            next += 1;
            running.push(block);
        }
        if running.is_empty() {
            for block in idle {
                total += block.report();
            }
            return Ok(Ok(total));
        }
        let mut at = 0;
        while at < running.len() {
            let before = running[at].executed();
            let progress = match running[at].run(TURN) {
                Ok(progress) => progress,
                Err(failure) => return Ok(Err(failure)),
            };
            used += running[at].executed() - before;
            if used > launch.options.budget {
                return Ok(Err(over_budget(launch.options.budget)));
            }
            match progress {
                Progress::Done => idle.push(running.remove(at)),
                Progress::Paused => at += 1,
            }
        }
    }
}

/// The failure of all blocks together, located at the kernel's first instruction.
fn over_budget(budget: u64) -> Box<BlockFailure> {
    let message = format!("all blocks together spent the launch's budget of {budget} instructions");
    let fault = Fault { kind: FaultKind::Budget, lane: 0, address: None, message };
    Box::new(BlockFailure {
        failure: Failure { fault, at: CodeAddress::default() },
        block: [0; 3],
        thread: [0; 3],
    })
}
