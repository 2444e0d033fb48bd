//! Ranks as threads of one process, each with an emulated device. The results have the bits of the ring on the CPU.

mod collectives;
mod faults;
mod lazy;
mod order;

use std::{sync::Arc, time::Duration};

use ssmv_autograd::{
    DType,
    cuda::{Cuda, DeviceMemory, Driver, Emulated, EmulatorOptions},
};

use super::super::{Communicator, tests::on_ranks};
use super::*;

/// Small pieces, so that a few thousand elements make many.
const OPTIONS: PeerOptions = PeerOptions { most: 1024, width: 3, timeout: Duration::from_secs(60) };

/// An emulated device, one of several.
fn emulated(ordinal: usize) -> Cuda {
    over(Emulated::new(&EmulatorOptions { memory: 256 << 20, ordinal: ordinal as u8, ..Default::default() }))
}

fn over(driver: impl Driver + 'static) -> Cuda {
    Cuda::over(Arc::new(driver)).unwrap()
}

fn ring(cuda: &Cuda, control: &mut Communicator) -> Box<dyn DeviceCollectives> {
    let link = PeerLink::connect(cuda, control, OPTIONS).unwrap();
    Box::new(DeviceRing::new(cuda, link).unwrap())
}

/// Runs `body` on ranks with a device each over peer memory and through the host, and on ranks that share one device.
fn on_every_transport(
    ranks: usize,
    body: impl Fn(&str, &mut Communicator, &Cuda, &mut dyn DeviceCollectives) + Sync,
) {
    on_ranks(ranks, |control| {
        let cuda = emulated(control.rank() + 1);
        let mut peer = ring(&cuda, control);
        body("peer memory", control, &cuda, &mut *peer);
        peer.close(control).unwrap();
        let mut staged = Staged::new(&cuda, 1024).unwrap();
        body("staged", control, &cuda, &mut staged);
        Box::new(staged).close(control).unwrap();
    });
    let shared = emulated(0);
    on_ranks(ranks, |control| {
        let mut peer = ring(&shared, control);
        body("peer memory on one device", control, &shared, &mut *peer);
        peer.close(control).unwrap();
    });
}

/// Numbers of many magnitudes, different on each rank.
fn numbers(rank: usize, count: usize) -> Vec<f32> {
    let mut state = rank as u32 * 7919 + count as u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state
    };
    (0..count)
        .map(|_| {
            let exponent = (next() >> 24) as i32 % 20 - 10;
            (next() as f32 / u32::MAX as f32 - 0.5) * 2f32.powi(exponent)
        })
        .collect()
}

fn memory(cuda: &Cuda, dtype: DType, values: &[f32]) -> DeviceMemory {
    DeviceMemory::copy_of(cuda, dtype, values).unwrap()
}

fn all(memory: &DeviceMemory) -> Vec<u32> {
    memory.download(0..memory.len()).unwrap().into_iter().map(f32::to_bits).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}
