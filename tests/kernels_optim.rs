//! The optimiser's kernels on the emulator, under all its checks, beside the CPU's optimiser: the same bits.

#[allow(dead_code)]
#[path = "../kernels/tests/against_cpu/harness.rs"]
mod harness;

use half::f16;
use harness::{Arg, run};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ssmv_autograd::optim::{AdamW, AdamWOptions, clip_factor, ema_share, gradient_norm};
use ssmv_kernels::{
    Kernel, Target,
    optim::{DIGESTS, StepState, adamw, decay_bitmap, digest, grad_norm, optimiser_step, partial_sums},
    ptx::{F16, F32},
    span::Real,
};
use ssmv_raw::train::loss_scale::LossScale;

const TARGET: Target = Target::Sm80;

/// Runs a kernel; holds it to whole sectors and to shared memory without bank conflicts.
fn launch(kernel: &Kernel, args: &[Arg]) -> Vec<Vec<u8>> {
    let (outputs, report) = run(kernel, args);
    assert!(report.global_requests > 0, "{}: no traffic was counted", kernel.name);
    assert_eq!(report.global_sectors, report.global_sectors_ideal, "{}: not coalesced", kernel.name);
    assert_eq!(report.bank_conflicts, 0, "{}", kernel.name);
    outputs
}

fn bytes(values: &[f32]) -> Vec<u8> {
    bytemuck::cast_slice(values).to_vec()
}

/// Panics at the first element whose bits differ.
fn same(case: &str, what: &str, got: &[u8], want: &[f32]) {
    assert_eq!(got.len(), 4 * want.len(), "{case}: {what}");
    for (i, (got, want)) in got.chunks_exact(4).zip(want).enumerate() {
        let got: f32 = bytemuck::pod_read_unaligned(got);
        assert_eq!(got.to_bits(), want.to_bits(), "{case}: {what}[{i}] is {got:e}, on the CPU {want:e}");
    }
}

/// Element types of gradients, on both sides.
trait Gradient: Real {
    fn round(x: f32) -> f32;
    fn bytes(values: &[f32]) -> Vec<u8>;
}

impl Gradient for F16 {
    fn round(x: f32) -> f32 {
        f16::from_f32(x).to_f32()
    }

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect()
    }
}

impl Gradient for F32 {
    fn round(x: f32) -> f32 {
        x
    }

    fn bytes(values: &[f32]) -> Vec<u8> {
        bytes(values)
    }
}

/// A training's arenas on the device.
struct Device {
    n: u32,
    decaying: Vec<u8>,
    /// Parameters, m, v.
    arenas: [Vec<u8>; 3],
    /// The f16 copy, where there is one.
    half: Option<Vec<u8>>,
    state: StepState,
}

impl Device {
    fn step<G: Gradient>(&mut self, gradients: &[f32], rate: f64) {
        self.state.rate = rate;
        let (n, gradients) = (self.n, G::bytes(gradients));
        let sums = Arg::Out(8 * partial_sums(n) as usize);
        let partials = launch(&grad_norm::<G>(n, TARGET), &[Arg::In(&gradients), sums]).remove(0);
        self.settle(&partials);
        let state = self.state.to_bytes();
        let mut args: Vec<_> = self.arenas.iter().map(|arena| Arg::InOut(arena)).collect();
        args.push(Arg::In(&gradients));
        args.extend(self.half.iter().map(|half| Arg::InOut(half)));
        args.extend([Arg::In(&self.decaying), Arg::In(&state)]);
        let mut outputs = launch(&adamw::<G>(n, self.half.is_some(), TARGET), &args).into_iter();
        self.arenas = std::array::from_fn(|_| outputs.next().unwrap());
        self.half = outputs.next();
    }

    fn settle(&mut self, partials: &[u8]) {
        let state = self.state.to_bytes();
        let args = [Arg::In(partials), Arg::InOut(&state)];
        let state = launch(&optimiser_step(self.n, TARGET), &args).remove(0);
        self.state = StepState::from_bytes(state.as_slice().try_into().unwrap());
    }
}

/// The same training on the CPU, as `Trainer::step` does it.
struct Host {
    parameters: Vec<f32>,
    optimiser: AdamW<f32>,
    max_norm: Option<f64>,
    loss_scale: LossScale,
    steps: u64,
}

impl Host {
    /// The gradients' norm.
    fn step(&mut self, gradients: &[f32], rate: f64) -> f64 {
        let scale = f64::from(self.loss_scale.scale());
        let norm = gradient_norm(gradients) / scale;
        if norm.is_finite() {
            let clip = self.max_norm.map_or(1.0, |most| clip_factor(norm, most));
            let options = &mut self.optimiser.options;
            (options.lr, options.gradient_scale) = (rate, clip / scale);
            self.optimiser.step(&mut self.parameters, gradients).unwrap();
        }
        self.steps += 1;
        self.loss_scale.update(self.steps, !norm.is_finite()).unwrap();
        norm
    }
}

/// One training on both, and what draws its gradients.
struct Pair {
    case: String,
    rng: ChaCha8Rng,
    /// Which elements belong to a parameter; the others are gaps.
    used: Vec<bool>,
    device: Device,
    host: Host,
}

impl Pair {
    /// Arenas of `n` elements with drawn parameters and settings.
    fn draw(n: u32, copy: bool, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let len = n as usize;
        let (mut used, mut decaying, mut start) = (vec![false; len], Vec::new(), 0);
        while start < len {
            let end = (start + rng.random_range(1..=1500)).min(len);
            used[start..end].fill(true);
            if rng.random() {
                decaying.push(start..end);
            }
            start = end.next_multiple_of(64);
        }
        let parameters: Vec<f32> =
            used.iter().map(|&u| if u { rng.random_range(-2.0..2.0) } else { 0.0 }).collect();
        let options = AdamWOptions {
            beta1: rng.random_range(0.8..0.95),
            beta2: rng.random_range(0.95..0.9999),
            eps: 10f64.powf(rng.random_range(-9.0..-5.0)),
            weight_decay: rng.random_range(0.0..0.1),
            ..AdamWOptions::default()
        };
        let max_norm = rng.random::<bool>().then(|| rng.random_range(0.01..1.0));
        let scale = 2f32.powi(rng.random_range(-3..17));
        let updates = rng.random_range(0..5000);
        let state = StepState {
            beta1: options.beta1,
            beta2: options.beta2,
            eps: options.eps,
            weight_decay: options.weight_decay,
            max_norm: max_norm.unwrap_or(f64::INFINITY),
            ema_decay: 0.99,
            interval: 2,
            updates,
            scale,
            ..StepState::default()
        };
        let half = parameters.iter().flat_map(|&p| f16::from_f32(p).to_le_bytes()).collect();
        let device = Device {
            n,
            decaying: decay_bitmap(n, &decaying).unwrap().iter().flat_map(|w| w.to_le_bytes()).collect(),
            arenas: [bytes(&parameters), vec![0; 4 * len], vec![0; 4 * len]],
            half: copy.then_some(half),
            state,
        };
        let host = Host {
            parameters,
            optimiser: AdamW { updates, ..AdamW::new(options, len, decaying) },
            max_norm,
            loss_scale: LossScale::new(scale, 2.0, 0.5, 2).unwrap(),
            steps: 0,
        };
        Self { case: format!("{n} elements, seed {seed}"), rng, used, device, host }
    }

    /// Gradients of every size, with zeros, and in gaps nothing else.
    fn gradients<G: Gradient>(&mut self) -> Vec<f32> {
        let draw = |&used: &bool| match self.rng.random_range(0..16) {
            _ if !used => 0.0,
            0 => 0.0,
            1 => -0.0,
            2 => self.rng.random_range(-1e-7..1e-7),
            3 => self.rng.random_range(-3e4..3e4),
            _ => self.rng.random_range(-1.0..1.0),
        };
        self.used.iter().map(draw).map(G::round).collect()
    }

    /// A step on both, and everything compared.
    fn step<G: Gradient>(&mut self, gradients: &[f32]) {
        let rate = 10f64.powf(self.rng.random_range(-5.0..-1.0));
        self.device.step::<G>(gradients, rate);
        let norm = self.host.step(gradients, rate);
        let (case, state, host) = (&self.case, &self.device.state, &self.host);
        let wanted = [&host.parameters, &host.optimiser.m, &host.optimiser.v];
        for ((what, got), want) in ["p", "m", "v"].into_iter().zip(&self.device.arenas).zip(wanted) {
            same(case, what, got, want);
        }
        if let Some(half) = &self.device.half {
            assert!(*half == F16::bytes(&host.parameters), "{case}: the f16 copy");
        }
        let got = (state.steps, state.updates, state.scale, state.consecutive_skips);
        let (scale, skips) = (host.loss_scale.scale(), host.loss_scale.consecutive_skips());
        assert_eq!(got, (host.steps, host.optimiser.updates, scale, skips), "{case}");
        assert_eq!(state.found_inf, u32::from(!norm.is_finite()), "{case}");
        assert!(state.norm.to_bits() == norm.to_bits() || state.norm.is_nan() && norm.is_nan(), "{case}");
        if norm.is_finite() {
            let clip = host.max_norm.map_or(1.0, |most| clip_factor(norm, most));
            assert_eq!(state.clip.to_bits(), clip.to_bits(), "{case}");
            let share = ema_share(state.ema_decay, state.updates);
            assert_eq!(state.ema_share.to_bits(), share.to_bits(), "{case}");
        }
    }
}

fn train<G: Gradient>(n: u32, copy: bool, seed: u64) {
    let mut pair = Pair::draw(n, copy, seed);
    for step in 0..5 {
        let mut gradients = pair.gradients::<G>();
        if step == 2 {
            let at = pair.rng.random_range(0..gradients.len());
            gradients[at] = f32::INFINITY;
        }
        pair.step::<G>(&gradients);
    }
}

#[test]
fn trainings_have_the_cpus_bits() {
    let lengths = [1, 3, 63, 64, 65, 255, 256, 300, 1024, 4097, 8191, 8192, 8193, 8500, 20_003];
    for (seed, n) in (0..).zip(lengths) {
        train::<F16>(n, true, seed);
        train::<F32>(n, seed % 2 == 0, seed + 100);
    }
}

/// One bad gradient at `at` among 9001 good ones after two steps.
fn one_bad<G: Gradient>(bad: f32, at: usize) -> (Pair, [Vec<u8>; 4]) {
    let mut pair = Pair::draw(9001, true, at as u64);
    for _ in 0..2 {
        let gradients = pair.gradients::<G>();
        pair.step::<G>(&gradients);
    }
    let [p, m, v] = pair.device.arenas.clone();
    let before = [p, m, v, pair.device.half.clone().unwrap()];
    let mut gradients = pair.gradients::<G>();
    gradients[at] = bad;
    pair.step::<G>(&gradients);
    (pair, before)
}

fn bytes_of(device: Device) -> [Vec<u8>; 4] {
    let [p, m, v] = device.arenas;
    [p, m, v, device.half.unwrap()]
}

#[test]
fn an_infinity_or_nan_anywhere_leaves_every_byte() {
    for (bad, at) in [(f32::NAN, 0), (f32::INFINITY, 8191), (f32::NEG_INFINITY, 8192), (f32::NAN, 9000)] {
        for (pair, before) in [one_bad::<F16>(bad, at), one_bad::<F32>(bad, at)] {
            assert_eq!(pair.device.state.found_inf, 1, "{bad} at {at}");
            assert!(bytes_of(pair.device) == before, "{bad} at {at}");
        }
    }
}

#[test]
fn the_largest_numbers_are_no_infinity() {
    let taken = [one_bad::<F16>(65504.0, 5000), one_bad::<F32>(f32::MAX, 5000)];
    for (pair, before) in taken {
        assert_eq!(pair.device.state.found_inf, 0);
        assert!(bytes_of(pair.device) != before);
    }
}

#[test]
fn an_overflow_elsewhere_skips_one_step() {
    let mut pair = Pair::draw(300, true, 7);
    let gradients = pair.gradients::<F16>();
    pair.device.state.overflow = 1;
    let (before, updates) = (pair.device.arenas.clone(), pair.device.state.updates);
    pair.device.step::<F16>(&gradients, 0.1);
    assert_eq!((pair.device.state.found_inf, pair.device.state.overflow), (1, 0));
    assert!(pair.device.arenas == before);
    pair.device.step::<F16>(&gradients, 0.1);
    let state = pair.device.state;
    assert_eq!((state.found_inf, state.updates, state.steps), (0, updates + 1, 2));
    assert!(pair.device.arenas != before);
}

#[test]
fn thousands_of_pieces_add_up_as_on_the_cpu() {
    // One gradient a piece, so that the pieces' sums are their squares, which f64 holds exactly.
    let (piece, pieces) = (8192, 2309);
    let n = piece * pieces - 5;
    assert_eq!(partial_sums(n as u32), pieces as u32);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut gradients = vec![0f32; n];
    let mut partials = Vec::new();
    for i in (0..n).step_by(piece) {
        gradients[i] = rng.random_range(-10.0..10.0);
        partials.extend(f64::from(gradients[i]).powi(2).to_le_bytes());
    }
    let state = StepState { scale: 8.0, ..StepState::default() };
    let mut device =
        Device { n: n as u32, decaying: Vec::new(), arenas: Default::default(), half: None, state };
    device.settle(&partials);
    assert_eq!(device.state.norm.to_bits(), (gradient_norm(&gradients) / 8.0).to_bits());
}

#[test]
fn the_scale_moves_as_pytorchs_grad_scaler() {
    // Within the executable, as it also runs where the repository is elsewhere.
    let file = include_bytes!("golden/grad_scaler.safetensors");
    let tensors = safetensors::SafeTensors::deserialize(file).unwrap();
    let read = |name| {
        let data = tensors.tensor(name).unwrap().data();
        data.chunks_exact(8).map(bytemuck::pod_read_unaligned::<f64>)
    };
    let state = StepState { scale: 1024.0, interval: 4, ..StepState::default() };
    let mut device = Device { n: 1, decaying: Vec::new(), arenas: Default::default(), half: None, state };
    for (step, (found, want)) in read("in.found_inf").zip(read("out.scale")).enumerate() {
        let sum = if found == 0.0 { 1.0 } else { f64::NAN };
        device.settle(&sum.to_le_bytes());
        assert_eq!(f64::from(device.state.scale), want, "step {step}");
    }
    // It does not grow past f32.
    device.state = StepState { scale: 2f32.powi(127), interval: 1, ..StepState::default() };
    device.settle(&1f64.to_le_bytes());
    assert_eq!((device.state.scale, device.state.growth_tracker), (2f32.powi(127), 0));
}

#[test]
fn a_digest_has_every_bit_of_every_word() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for n in [1, 64, DIGESTS - 1, DIGESTS, 2 * DIGESTS + 4321] {
        let words: Vec<u32> = (0..n).map(|_| rng.random()).collect();
        let sums = |words: &[u32]| {
            let out = Arg::Out(4 * DIGESTS as usize);
            launch(&digest(n, TARGET), &[Arg::In(bytemuck::cast_slice(words)), out]).remove(0)
        };
        let mut want = vec![0u32; DIGESTS as usize];
        for (i, word) in words.iter().enumerate() {
            let sum = &mut want[i % DIGESTS as usize];
            *sum = sum.wrapping_add(word.wrapping_mul(2 * i as u32 + 1));
        }
        assert_eq!(sums(&words), bytemuck::cast_slice::<u32, u8>(&want), "{n}");
        // A sign, and the last bit.
        for bit in [31, 0] {
            let mut other = words.clone();
            other[n as usize / 2] ^= 1 << bit;
            assert_ne!(sums(&other), sums(&words), "{n}, bit {bit}");
        }
    }
}
