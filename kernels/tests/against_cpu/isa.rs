//! Every instruction of the assembler on the device under test.

use ssmv_kernels::isa_tests::isa_tests;

use crate::harness::{Arg, at_best_and_worst, run, targets};

#[test]
fn every_instruction_gives_what_it_must() {
    at_best_and_worst(|| {
        for target in targets() {
            for test in isa_tests(target) {
                let mut args = vec![Arg::In(&test.input), Arg::Out(test.output_bytes())];
                args.extend(test.numbers.iter().map(|&n| Arg::U32(n)));
                let (outputs, _) = run(&test.kernel, &args);
                test.check(&outputs[0]).unwrap_or_else(|e| panic!("{target}: {e}"));
            }
        }
    });
}
