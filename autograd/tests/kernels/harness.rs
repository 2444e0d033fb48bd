//! Runs one kernel on fresh buffers, under all checks.

use ssmv_emulator::{Geometry, Memory, Module, Options, Report, launch};
use ssmv_kernels::Kernel;

/// An argument of a launch.
pub enum Arg<'a> {
    /// A buffer that the kernel reads.
    In(&'a [u8]),
    /// A buffer of so many bytes that the kernel writes; nothing has written it before.
    Out(usize),
    /// A buffer that the kernel reads and writes.
    InOut(&'a [u8]),
    /// The buffer of an earlier argument.
    Same(usize),
    /// No memory at all: any access is an error.
    Null,
    /// A number.
    F32(f32),
}

/// What [`Arg::Out`] buffers hold before, so that a byte which the kernel does not write shows.
const POISON: u8 = 0xA5;

/// The contents of the `Out` and `InOut` buffers in order, and the launch's counts. Panics with the emulator's error.
pub fn run(kernel: &Kernel, args: &[Arg]) -> (Vec<Vec<u8>>, Report) {
    let memory = Memory::new(1 << 32);
    let module = Module::parse(&kernel.name, &kernel.ptx).unwrap().load(&memory).unwrap();
    let mut bytes: Vec<Vec<u8>> = Vec::new();
    let mut outputs = Vec::new();
    for arg in args {
        let (contents, out) = match arg {
            Arg::F32(x) => {
                bytes.push(x.to_le_bytes().to_vec());
                continue;
            }
            Arg::Same(i) => {
                bytes.push(bytes[*i].clone());
                continue;
            }
            Arg::Null => {
                bytes.push(0u64.to_le_bytes().to_vec());
                continue;
            }
            Arg::In(contents) => (contents.to_vec(), false),
            Arg::InOut(contents) => (contents.to_vec(), true),
            Arg::Out(len) => (vec![POISON; *len], true),
        };
        let address = memory.alloc(contents.len().max(1) as u64).unwrap();
        memory.write(address, &contents).unwrap();
        if matches!(arg, Arg::Out(_)) {
            memory.forget(address, contents.len() as u64).unwrap();
        }
        if out {
            outputs.push((address, contents.len()));
        }
        bytes.push(address.to_le_bytes().to_vec());
    }
    let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
    let geometry = Geometry { grid: kernel.grid, block: kernel.block, shared: kernel.shared };
    let report = launch(&memory, &module, &kernel.name, &geometry, &slices, &Options::default())
        .unwrap_or_else(|e| panic!("{}: {e}", kernel.name));
    let read = |&(address, len): &(u64, usize)| {
        let mut contents = vec![0; len];
        memory.read(address, &mut contents).unwrap();
        contents
    };
    (outputs.iter().map(read).collect(), report)
}
