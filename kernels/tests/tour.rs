//! The tour of the assembler: every instruction gives on the emulator, under all checks, what it must, and no kernel uses
//! one that the tour does not pass.

use std::collections::BTreeSet;

use ssmv_emulator::{LaunchConfig, Memory, Module, Options, args, launch};
use ssmv_kernels::{
    Kernel, Target, catalogue,
    tour::{Tour, tours},
};

/// The output of a tour on the emulator.
fn output(tour: &Tour) -> Vec<u8> {
    let Kernel { name, ptx, grid, block, shared, .. } = &tour.kernel;
    let memory = Memory::new(1 << 24);
    let module = Module::parse(name, ptx).unwrap().load(&memory).unwrap();
    let (x, y) = (memory.alloc(tour.input.len() + 8).unwrap(), memory.alloc(tour.output_bytes()).unwrap());
    memory.write(x, &tour.input).unwrap();
    let arguments = tour.numbers.iter().fold(args![x, y], |arguments, &number| arguments.with(number));
    let config = LaunchConfig { grid: *grid, block: *block, shared: *shared };
    launch(&memory, &module, name, &config, &arguments, &Options::default())
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut output = vec![0; tour.output_bytes()];
    memory.read(y, &mut output).unwrap();
    output
}

#[test]
fn every_instruction_gives_what_it_must() {
    for target in Target::ALL {
        for tour in tours(target) {
            tour.check(&output(&tour)).unwrap_or_else(|e| panic!("{target}: {e}"));
        }
    }
}

#[test]
fn a_wrong_bit_is_seen() {
    for tour in tours(Target::Sm80) {
        let right = output(&tour);
        for at in [0, right.len() / 2 / 8 * 8, right.len() - 8] {
            let mut wrong = right.clone();
            wrong[at] ^= 0x40;
            assert!(tour.check(&wrong).is_err(), "{}: byte {at}", tour.kernel.name);
        }
        assert!(tour.check(&right[8..]).is_err());
    }
}

/// The mnemonics of a kernel's instructions.
fn mnemonics(kernel: &Kernel) -> impl Iterator<Item = &str> {
    let body = kernel.ptx.split_once("\n{\n").unwrap().1;
    let lines = body.lines().map(str::trim).filter(|line| !line.starts_with(['.', '/', '$', '}']));
    lines.filter_map(|line| line.split_whitespace().find(|word| !word.starts_with('@')))
}

#[test]
fn the_tour_passes_every_instruction_that_a_kernel_uses() {
    for target in Target::ALL {
        let all = catalogue(target);
        let on = |tour: bool| -> BTreeSet<&str> {
            all.iter().filter(|kernel| (kernel.family == "tour") == tour).flat_map(mnemonics).collect()
        };
        let missing: Vec<_> = on(false).difference(&on(true)).copied().collect();
        assert!(missing.is_empty(), "{target}: the tour (src/tour/) does not pass {missing:?}");
        assert!(on(true).len() > 200, "{}", on(true).len());
    }
}
