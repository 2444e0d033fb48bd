//! y[i] = f(x[i]): kernels bound by memory, 16 bytes an access.

use crate::{
    Kernel, Target, Work,
    ptx::{Asm, F16, F32, Launch, Reg},
    span::Real,
};

/// Threads of a block.
const BLOCK: u32 = 256;

/// The family at representative shapes.
pub fn catalogue(target: Target) -> Vec<Kernel> {
    vec![silu::<F16>(1 << 24, target), silu::<F32>(1 << 24, target), silu::<F16>(1003, target)]
}

/// y[i] = x[i]·σ(x[i]) (SiLU; Elfwing et al. 2017).
pub fn silu<T: Real>(n: u32, target: Target) -> Kernel {
    unary::<T>("silu", n, target, |k, x| x * k.sigmoid(x))
}

fn unary<T: Real>(
    name: &str,
    n: u32,
    target: Target,
    f: impl for<'k> Fn(&'k Asm, Reg<'k, F32>) -> Reg<'k, F32>,
) -> Kernel {
    let width = T::VECTOR;
    let launch = Launch::new("pointwise", format!("{name}_{}_n{n}", T::SPELLED), target)
        .threads(BLOCK, n.div_ceil(width).into());
    let work = Work { bytes: 2 * u64::from(n) * u64::from(T::BYTES), operations: u64::from(n) };
    Asm::kernel(launch, work, &format!("y[i] = {name}(x[i])"), |k| {
        let (x, y) = (k.pointer::<T>("x"), k.pointer::<T>("y"));
        k.each_span(n, width, |span| {
            let values: Vec<_> = span.load(x).into_iter().map(|x| f(k, x)).collect();
            span.store(y, &values);
        });
    })
}
