//! Times the passes of the presets' convolutions on the CPU, one thread and all of them.
//!
//!     cargo bench -p ssmv-autograd --bench conv
//!
//! Prints a row a shape: GFLOP/s of fprop, dgrad and wgrad (a multiply-add counts as two), medians of several runs.

use std::time::Instant;

use ssmv_autograd::{
    Gradients, Tensor, no_grad,
    ops::{conv_transpose2d::ConvTranspose2d, conv2d::Conv2d},
};

/// What a convolution of the presets is: images, side of x, channels in and out, kernel, stride, padding.
const SHAPES: &[(&str, [usize; 7])] = &[
    ("tiny stem", [160, 64, 3, 16, 7, 2, 3]),
    ("tiny stage 0", [160, 16, 16, 16, 3, 1, 1]),
    ("tiny stage 2", [160, 4, 64, 64, 3, 1, 1]),
    ("tiny deconv 3", [32, 64, 16, 16, 4, 2, 1]),
    ("tiny out", [32, 64, 16, 3, 3, 1, 1]),
    ("small stem", [160, 64, 3, 32, 7, 2, 3]),
    ("small stage 0", [160, 16, 32, 32, 3, 1, 1]),
    ("small stage 1 s2", [160, 16, 32, 64, 3, 2, 1]),
    ("small stage 1", [160, 8, 64, 64, 3, 1, 1]),
    ("small stage 2", [160, 4, 128, 128, 3, 1, 1]),
    ("small deconv 0", [32, 8, 128, 128, 4, 2, 1]),
    ("small deconv 3", [32, 64, 16, 32, 4, 2, 1]),
    ("base stage 1", [20, 8, 128, 128, 3, 1, 1]),
    ("base stage 3", [20, 4, 512, 512, 3, 1, 1]),
    ("base deconv 0", [4, 8, 512, 1024, 4, 2, 1]),
];

fn random(shape: [usize; 4]) -> Tensor {
    let mut state = 1u64;
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        })
        .collect();
    Tensor::new(shape, &values).expect("as many values as the shape has")
}

fn median(mut run: impl FnMut()) -> f64 {
    run();
    let mut times: Vec<f64> = (0..7)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    println!(
        "{:<18} {:>9} {:>9} {:>9}   {:>9} {:>9} {:>9}",
        "GFLOP/s", "fprop 1", "dgrad 1", "wgrad 1", "fprop", "dgrad", "wgrad"
    );
    for &(name, [n, side, cin, cout, k, stride, padding]) in SHAPES {
        let (x, w) = (random([n, side, side, cin]), random([cout, k, k, cin]));
        let forward = Conv2d::square(stride, padding);
        let y = x.conv2d(&w, None, forward).expect("a shape that fits");
        let out = y.shape()[1];
        let flops = 2.0 * (y.numel() * cin * k * k) as f64;
        let extra = side - ((out - 1) * stride + k - 2 * padding);
        let backward =
            ConvTranspose2d { output_padding: [extra; 2], ..ConvTranspose2d::square(stride, padding) };
        let row = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
            pool.install(|| {
                let fprop = median(|| drop(no_grad(|| x.conv2d(&w, None, forward))));
                let dgrad = median(|| drop(no_grad(|| y.conv_transpose2d(&w, None, backward))));
                let leaf = w.leaf();
                let wgrad = median(|| {
                    let made = x.conv2d(&leaf, None, forward).expect("fits");
                    made.backward_from(y.clone(), &mut Gradients::of_leaves()).expect("a gradient");
                }) - fprop;
                [fprop, dgrad, wgrad].map(|t| flops / t / 1e9)
            })
        };
        let ([a, b, c], [d, e, f]) = (row(1), row(0));
        println!("{name:<18} {a:>9.1} {b:>9.1} {c:>9.1}   {d:>9.1} {e:>9.1} {f:>9.1}");
    }
}
