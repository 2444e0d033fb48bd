//! Every family's kernels at representative shapes: the command line lists them, `ptxas` assembles them and the
//! benchmarks measure them.

use crate::{
    Kernel, Target, batch_norm, causal_conv1d, conv, gemm, isa_tests, layer_norm, layout, loss, max_pool,
    optim, pointwise, reduce, reduce_copy, selective_scan, softmax, upsample,
};

/// The catalogue function of each family.
const FAMILIES: &[fn(Target) -> Vec<Kernel>] = &[
    pointwise::catalogue,
    reduce::catalogue,
    optim::catalogue,
    gemm::catalogue,
    conv::catalogue,
    max_pool::catalogue,
    upsample::catalogue,
    layout::catalogue,
    loss::catalogue,
    batch_norm::catalogue,
    layer_norm::catalogue,
    softmax::catalogue,
    causal_conv1d::catalogue,
    selective_scan::catalogue,
    reduce_copy::catalogue,
    isa_tests::catalogue,
];

/// The kernels of all families for a target, family by family. Names are unique.
pub fn catalogue(target: Target) -> Vec<Kernel> {
    FAMILIES.iter().flat_map(|family| family(target)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_identifiers_of_the_text() {
        for target in Target::ALL {
            let mut names = HashSet::new();
            for kernel in catalogue(target) {
                let Kernel { name, ptx, .. } = &kernel;
                assert!(names.insert(name.clone()), "{name} ({target}) is there twice");
                // Names are used as file names.
                assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{name}");
                assert!(ptx.contains(&format!(".visible .entry {name}(")), "{name} ({target})");
                assert_eq!(kernel.target, target, "{name}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "product: PTX text must be ASCII: // product: C = A·B")]
    fn text_that_a_driver_refuses_is_not_assembled() {
        let launch = crate::ptx::Launch::new("gemm", "product", Target::Sm80);
        crate::ptx::Asm::kernel(launch, crate::Work { bytes: 0, operations: 0 }, "C = A·B", |_| {});
    }

    #[test]
    fn text_is_ascii() {
        for kernel in Target::ALL.into_iter().flat_map(catalogue) {
            let foreign = kernel.ptx.lines().find(|line| !line.is_ascii());
            assert_eq!(foreign, None, "{}: drivers r570 to r580 refuse this", kernel.name);
        }
    }
}
