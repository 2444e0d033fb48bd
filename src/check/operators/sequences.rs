//! Operators on sequences [B,L,D].

use ssmv_autograd::ops::mamba_inner::MambaInner;

use super::*;

pub(super) const TABLE: &[Operator] = &[
    Operator::new(
        "causal_conv1d",
        &[
            Input::new("x"),
            Input::new("weight").layout(Layout::TapsLast).keep_f32(),
            Input::new("bias").keep_f32(),
        ],
        |x, _| only(x[0].causal_conv1d(&x[1], &x[2])),
    )
    .accepts(|a| a.only_usual(&[("layout", json!("BLD"))]))
    .drawn(&[
        gradients("causal_conv1d", 16, |d| {
            let x = [d.within(1, 3), d.pick(&[1, 2, 3, 4, 5, 11]), d.channels()];
            let taps = d.pick(&[1, 2, 4, 7]);
            causal_conv1d(d, x, taps)
        }),
        device("causal_conv1d", |d| causal_conv1d(d, [2, 7, 16], 4)),
        device("causal_conv1d shorter than its taps", |d| causal_conv1d(d, [1, 2, 5], 4)),
        gpu("causal_conv1d of base", |d| causal_conv1d(d, [16, 12, 2048], 4)),
    ])
    .golden(golden! {
        "causal_conv1d_2x6x8",
        "odd/causal_1",
        "odd/causal_2",
        "odd/causal_4",
        "odd/causal_7"
    }),
    Operator::new(
        "selective_scan",
        &[
            Input::new("u"),
            Input::new("delta"),
            Input::new("a").keep_f32(),
            Input::new("b"),
            Input::new("c"),
            Input::new("d").keep_f32(),
        ],
        |x, _| only(x[0].selective_scan(&x[1], &x[2], &x[3], &x[4], &x[5])),
    )
    .drawn(&[
        // Also lengths past the one up to which all states are kept.
        gradients("selective_scan", 30, |d| {
            let length = d.pick(&[1, 2, 7, 12, 64, 65, 81, 100, 131]);
            let (channels, states) = (d.pick(&[1, 3, 16, 17, 33]), d.pick(&[1, 3, 4, 16]));
            let batch = d.within(1, 2);
            selective_scan(d, [batch, length, channels], states)
        }),
        device("selective_scan", |d| selective_scan(d, [2, 7, 16], 16)),
        device("selective_scan one step, odd channels", |d| selective_scan(d, [1, 1, 5], 3)),
        device("selective_scan 300 steps", |d| selective_scan(d, [1, 300, 8], 4)),
        gpu("selective_scan of base", |d| selective_scan(d, [16, 12, 2048], 16)),
    ])
    .golden(golden!["selective_scan_1x10x8x16", "selective_scan_2x7x6x4", "odd/scan_1_1"]),
    Operator::new(
        "mamba_inner",
        &[
            Input::new("uz"),
            Input::new("conv weight").keep_f32(),
            Input::new("conv bias").keep_f32(),
            Input::new("x_proj"),
            Input::new("dt_proj"),
            Input::new("dt_bias").keep_f32(),
            Input::new("A_log").keep_f32(),
            Input::new("D").keep_f32(),
        ],
        |x, _| {
            only(x[0].mamba_inner(&MambaInner {
                conv_weight: &x[1],
                conv_bias: &x[2],
                x_proj: &x[3],
                dt_proj: &x[4],
                dt_bias: &x[5],
                a_log: &x[6],
                d: &x[7],
            }))
        },
    )
    .drawn(&[
        device("mamba_inner", |d| mamba_inner(d, [2, 5, 32], 4)),
        device("mamba_inner odd channels", |d| mamba_inner(d, [1, 3, 6], 1)),
        gpu("mamba_inner of base", |d| mamba_inner(d, [4, 12, 2048], 64)),
    ])
    .bounds(COMPOSITE),
];

fn causal_conv1d(d: &mut Draw, x: [usize; 3], taps: usize) -> Case {
    let channels = x[2];
    Case::new([d.values(&x), d.values(&[taps, channels]), d.values(&[channels])])
}

fn selective_scan(d: &mut Draw, [batch, length, channels]: [usize; 3], states: usize) -> Case {
    let (wide, narrow) = ([batch, length, channels], [batch, length, states]);
    Case::new([
        d.values(&wide),
        d.between(&wide, 0.01, 0.5),
        d.between(&[channels, states], -4.0, -0.1),
        d.values(&narrow),
        d.values(&narrow),
        d.values(&[channels]),
    ])
}

/// The mixer between its projections, with 16 states and 4 taps.
fn mamba_inner(d: &mut Draw, [batch, length, channels]: [usize; 3], rank: usize) -> Case {
    let (states, taps) = (16, 4);
    Case::new([
        d.values(&[batch, length, 2 * channels]),
        d.weight(&[taps, channels], taps),
        d.values(&[channels]),
        d.weight(&[rank + 2 * states, channels], channels),
        d.weight(&[channels, rank], rank),
        d.between(&[channels], -4.0, -1.0),
        d.between(&[channels, states], 0.0, 2.5),
        d.values(&[channels]),
    ])
}
