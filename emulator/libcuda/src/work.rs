//! Queued work, and its effect when it runs.

use std::{
    ffi::c_void,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use ssmv_emulator::{Arguments, Error, FaultKind, LaunchConfig, LoadedModule, Memory, Options};

use crate::{
    code::{Code, Failure, Outcome, fail},
    host, log,
    shared::EventPage,
};

/// A piece of work for a device.
#[derive(Debug, Clone)]
pub enum Work {
    /// No effect: a point in the order of work.
    Nothing,
    Launch(Launch),
    Copy(Copy),
    Fill(Fill),
    /// Notes the time, for an event.
    Record(Arc<Record>),
    /// Calls a function of the program.
    Host(HostCall),
    /// Ends the allocation at an address, in stream order; the executor does it, which has the lock.
    Free(u64),
}

/// A launch with its arguments.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The kernel's module, in the memory of the device.
    pub module: Arc<LoadedModule>,
    /// The device's memory.
    pub memory: Arc<Memory>,
    pub kernel: String,
    pub config: LaunchConfig,
    pub arguments: Arguments,
    /// How the emulator runs it.
    pub options: Arc<Options>,
}

/// One side of a copy.
#[derive(Debug, Clone)]
pub enum Side {
    /// Memory that devices know: of a device, or pinned.
    Device(Arc<Memory>, u64),
    /// The program's own, with the digest that it had when the copy was queued (for sources).
    Host(usize, Option<u64>),
}

/// A copy of a box of bytes.
#[derive(Debug, Clone)]
pub struct Copy {
    /// The call, for messages.
    pub call: &'static str,
    /// Where the first byte goes.
    pub to: Side,
    /// Bytes from row to row and from plane to plane of the destination.
    pub to_pitch: [u64; 2],
    /// Where the first byte is.
    pub from: Side,
    /// Bytes from row to row and from plane to plane of the source.
    pub from_pitch: [u64; 2],
    /// Bytes of a row, rows, planes.
    pub extent: [u64; 3],
}

/// A fill of rows of elements.
#[derive(Debug, Clone)]
pub struct Fill {
    /// Where the first element is.
    pub memory: Arc<Memory>,
    pub address: u64,
    /// The value, in its low bytes.
    pub value: u32,
    /// Bytes of an element: 1, 2 or 4.
    pub element: u32,
    /// Elements of a row, rows, bytes from row to row.
    pub extent: [u64; 3],
}

/// The moment of an event's record.
#[derive(Debug, Default)]
pub struct Record {
    /// When the work before it had ended.
    pub at: Mutex<Option<Instant>>,
    /// The event's number among those that other processes can open, and which record of it this is.
    pub shared: Option<(Arc<EventPage>, u64, u64)>,
}

/// A function of the program.
#[derive(Debug, Clone, Copy)]
pub enum HostCall {
    /// `cuLaunchHostFunc`.
    Plain(unsafe extern "C" fn(*mut c_void), usize),
    /// `cuStreamAddCallback`, with its stream.
    Stream(unsafe extern "C" fn(*mut c_void, u32, *mut c_void), usize, usize),
}

impl fmt::Display for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LaunchConfig { grid, block, .. } = self.config;
        write!(f, "{} with grid {grid:?}, block {block:?}", self.kernel)
    }
}

impl Work {
    /// Runs the work.
    ///
    /// # Errors
    /// The code that ends the context, with what happened.
    pub fn run(&self) -> Outcome {
        match self {
            Self::Nothing | Self::Free(_) => Ok(()),
            Self::Launch(launch) => launch.run(),
            Self::Copy(copy) => copy.run(),
            Self::Fill(fill) => fill.run(),
            Self::Record(record) => {
                *record.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                if let Some((page, event, number)) = &record.shared {
                    page.completed(*event, *number);
                }
                Ok(())
            }
            Self::Host(call) => {
                call.run();
                Ok(())
            }
        }
    }
}

impl Launch {
    /// Whether the grid has blocks.
    pub fn check_grid(&self) -> Outcome {
        match self.config.grid.into_iter().position(|blocks| blocks == 0) {
            None => Ok(()),
            Some(axis) => {
                let name = &self.kernel;
                fail!(INVALID_VALUE, "{name}: 0 blocks along axis {axis}; a launch needs 1 at least")
            }
        }
    }

    fn run(&self) -> Outcome {
        let run = ssmv_emulator::launch(
            &self.memory,
            &self.module,
            &self.kernel,
            &self.config,
            &self.arguments,
            &self.options,
        );
        let Err(error) = run else { return Ok(()) };
        let code = match &error {
            Error::Kernel { fault, .. } => match fault.kind {
                FaultKind::OutOfBounds => Code::ILLEGAL_ADDRESS,
                FaultKind::Misaligned => Code::MISALIGNED_ADDRESS,
                FaultKind::Budget => Code::LAUNCH_TIMEOUT,
                FaultKind::Trap if fault.message.contains("assert") => Code::ASSERT,
                FaultKind::Trap => Code::ILLEGAL_INSTRUCTION,
                _ => Code::LAUNCH_FAILED,
            },
            _ => Code::LAUNCH_FAILED,
        };
        Err(Failure::new(code, format!("launch of {self}: {error}")))
    }
}

fn usage(call: &str, error: &Error) -> Failure {
    Failure::new(Code::ILLEGAL_ADDRESS, format!("{call}: {error}"))
}

/// Bytes that are copied in one piece between memories.
const PIECE: u64 = 1 << 20;

impl Copy {
    /// The lengths of the two sides, from the first byte to the last.
    pub fn reach(&self) -> [u64; 2] {
        let [width, height, depth] = self.extent;
        [self.to_pitch, self.from_pitch].map(|[row, plane]| match width * height * depth {
            0 => 0,
            _ => width + row * (height - 1) + plane * (depth - 1),
        })
    }

    fn run(&self) -> Outcome {
        let [width, height, depth] = self.extent;
        if let Side::Host(address, Some(digest)) = self.from
            && host::digest(address, self.reach()[1] as usize) != Some(digest)
        {
            let call = self.call;
            log::write(&format!(
                "{call}: the source at {address:#x} changed, or was given back, between the call and the copy; \
                 wait for the copy before you write there"
            ));
        }
        for (plane, row) in (0..depth).flat_map(|plane| (0..height).map(move |row| (plane, row))) {
            let at = |[pitch, planes]: [u64; 2]| row * pitch + plane * planes;
            self.row(at(self.to_pitch), at(self.from_pitch), width)?;
        }
        Ok(())
    }

    fn row(&self, to: u64, from: u64, width: u64) -> Outcome {
        if let (Side::Device(memory, target), Side::Device(same, source)) = (&self.to, &self.from)
            && Arc::ptr_eq(memory, same)
        {
            return memory
                .copy(target + to, source + from, width as usize)
                .map_err(|error| usage(self.call, &error));
        }
        let mut piece = vec![0; width.min(PIECE) as usize];
        for done in (0..width).step_by(PIECE as usize) {
            let part = &mut piece[..(width - done).min(PIECE) as usize];
            match &self.from {
                Side::Device(memory, source) => {
                    memory.read(source + from + done, part).map_err(|error| usage(self.call, &error))?;
                }
                Side::Host(source, _) => host::read(self.call, source + (from + done) as usize, part)?,
            }
            match &self.to {
                Side::Device(memory, target) => {
                    memory.write(target + to + done, part).map_err(|error| usage(self.call, &error))?;
                }
                Side::Host(target, _) => host::write(self.call, target + (to + done) as usize, part)?,
            }
        }
        Ok(())
    }
}

impl Fill {
    fn run(&self) -> Outcome {
        let [width, height, pitch] = self.extent;
        let bytes = width * u64::from(self.element);
        let value = self.value.to_le_bytes();
        for row in 0..height {
            let address = self.address + row * pitch;
            let filled = match self.element {
                1 => self.memory.fill(address, value[0], bytes as usize),
                _ => {
                    let pattern: Vec<u8> = value[..self.element as usize]
                        .iter()
                        .copied()
                        .cycle()
                        .take(bytes.min(PIECE) as usize)
                        .collect();
                    (0..bytes).step_by(PIECE as usize).try_for_each(|done| {
                        self.memory.write(address + done, &pattern[..(bytes - done).min(PIECE) as usize])
                    })
                }
            };
            filled.map_err(|error| usage("cuMemset", &error))?;
        }
        Ok(())
    }
}

impl HostCall {
    fn run(self) {
        IN_CALLBACK.set(true);
        match self {
            // SAFETY: the program gave the function for this call, with this argument.
            Self::Plain(function, data) => unsafe { function(data as *mut c_void) },
            // SAFETY: the same.
            Self::Stream(function, stream, data) => unsafe {
                function(stream as *mut c_void, 0, data as *mut c_void)
            },
        }
        IN_CALLBACK.set(false);
    }
}

thread_local! {
    static IN_CALLBACK: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// An error in a function that a stream calls: it may call nothing of the driver.
pub fn refuse_in_callback() -> Outcome {
    match IN_CALLBACK.get() {
        true => fail!(NOT_PERMITTED, "a function that a stream calls may not call the driver"),
        false => Ok(()),
    }
}
