//! Tests of the instruction set on the emulator, under all checks; and no kernel uses an instruction without a test.

use std::collections::BTreeSet;

use ssmv_emulator::{LaunchConfig, Memory, Module, Options, args, launch};
use ssmv_kernels::{
    Kernel, Target, catalogue,
    isa_tests::{IsaTest, isa_tests},
};

/// The output of a test on the emulator.
fn output(test: &IsaTest) -> Vec<u8> {
    let Kernel { name, ptx, grid, block, shared, .. } = &test.kernel;
    let memory = Memory::new(1 << 24);
    let module = Module::parse(name, ptx).unwrap().load(&memory).unwrap();
    let (x, y) = (memory.alloc(test.input.len() + 8).unwrap(), memory.alloc(test.output_bytes()).unwrap());
    memory.write(x, &test.input).unwrap();
    let arguments = test.numbers.iter().fold(args![x, y], |arguments, &number| arguments.with(number));
    let config = LaunchConfig { grid: *grid, block: *block, shared: *shared };
    launch(&memory, &module, name, &config, &arguments, &Options::default())
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut output = vec![0; test.output_bytes()];
    memory.read(y, &mut output).unwrap();
    output
}

#[test]
fn every_instruction_gives_what_it_must() {
    for target in Target::ALL {
        for test in isa_tests(target) {
            test.check(&output(&test)).unwrap_or_else(|e| panic!("{target}: {e}"));
        }
    }
}

#[test]
fn a_wrong_bit_is_seen() {
    for test in isa_tests(Target::Sm80) {
        let right = output(&test);
        for at in [0, right.len() / 2 / 8 * 8, right.len() - 8] {
            let mut wrong = right.clone();
            wrong[at] ^= 0x40;
            assert!(test.check(&wrong).is_err(), "{}: byte {at}", test.kernel.name);
        }
        assert!(test.check(&right[8..]).is_err());
    }
}

/// The mnemonics of a kernel's instructions.
fn mnemonics(kernel: &Kernel) -> impl Iterator<Item = &str> {
    let body = kernel.ptx.split_once("\n{\n").unwrap().1;
    let lines = body.lines().map(str::trim).filter(|line| !line.starts_with(['.', '/', '$', '}']));
    lines.filter_map(|line| line.split_whitespace().find(|word| !word.starts_with('@')))
}

#[test]
fn every_instruction_that_a_kernel_uses_has_a_test() {
    for target in Target::ALL {
        let all = catalogue(target);
        let on = |test: bool| -> BTreeSet<&str> {
            all.iter().filter(|kernel| (kernel.family == "isa_test") == test).flat_map(mnemonics).collect()
        };
        let missing: Vec<_> = on(false).difference(&on(true)).copied().collect();
        assert!(missing.is_empty(), "{target}: src/isa_tests/ does not test {missing:?}");
        assert!(on(true).len() > 200, "{}", on(true).len());
    }
}
