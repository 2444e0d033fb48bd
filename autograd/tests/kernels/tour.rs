//! Every instruction of the assembler on the device under test.

use ssmv_kernels::tour::tours;

use crate::harness::{Arg, at_best_and_worst, run, targets};

#[test]
fn every_instruction_gives_what_it_must() {
    at_best_and_worst(|| {
        for target in targets() {
            for tour in tours(target) {
                let mut args = vec![Arg::In(&tour.input), Arg::Out(tour.output_bytes())];
                args.extend(tour.numbers.iter().map(|&n| Arg::U32(n)));
                let (outputs, _) = run(&tour.kernel, &args);
                tour.check(&outputs[0]).unwrap_or_else(|e| panic!("{target}: {e}"));
            }
        }
    });
}
