//! An operator of one's own, with a GPU kernel that the assembler writes as PTX. The emulator runs it where there is no GPU.
//!
//!     cargo run --release -p ssmv-autograd --example 04_own_kernel

use std::sync::Arc;

use ssmv_autograd::{
    Backward, DType, Device, Error, Forward, Gradients, Op, Result, Shape, Tensor, apply,
    cuda::{Cuda, DeviceMemory, Emulated, EmulatorOptions},
};
use ssmv_kernels::{
    Kernel, Target, Work,
    ptx::{Asm, F32, Launch},
};

/// y = x³.  dx = 3·x²·dy.
struct Cube;

/// y[i] = x[i]³ for n elements in f32, a thread an element.
fn cube(n: u32, target: Target) -> Kernel {
    let launch = Launch::new("cube", format!("cube_n{n}"), target).threads(256, n.into());
    let work = Work { bytes: 8 * u64::from(n), operations: 2 * u64::from(n) };
    Asm::kernel(launch, work, "y[i] = x[i]^3", |asm| {
        let (x, y) = (asm.pointer::<F32>("x"), asm.pointer::<F32>("y"));
        let i = asm.global_thread();
        asm.if_(i.lt(n), || {
            let value = x.at(i).load();
            y.at(i).store(value * value * value);
        });
    })
}

impl Op for Cube {
    fn name(&self) -> &'static str {
        "cube"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(inputs[0].clone())
    }

    fn forward(&self, cx: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        let x = inputs[0];
        cx.save(x);
        match x.device() {
            Device::Cpu => {
                let values = x.values::<f32>()?;
                Tensor::build(x.shape().clone(), |y: &mut [f32]| {
                    y.iter_mut().zip(values).for_each(|(y, x)| *y = x * x * x);
                })
            }
            Device::Cuda => {
                let n = u32::try_from(x.numel()).map_err(|e| Error::shape("cube", e.to_string()))?;
                let memory = DeviceMemory::new(x.cuda()?, DType::F32, x.numel())?;
                let arguments = [x.argument()?, memory.argument()];
                x.cuda()?.launch_one(&("cube", n), &arguments, |_, target| Ok(cube(n, target)))?;
                Tensor::over_cuda(x.shape().clone(), &memory, 0)
            }
        }
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        let [x] = cx.saved()?;
        cx.give(0, (3.0 * ((&x * &x)? * dy)?)?)
    }
}

fn main() -> Result<()> {
    println!("{}", cube(1000, Target::Sm80).ptx);
    // `Cuda::open(Backend::Nvidia, 0)` opens a GPU instead.
    let cuda = Cuda::over(Arc::new(Emulated::new(&EmulatorOptions::default())))?;
    let host = Tensor::new([4], &[-2f32, -0.5, 1.0, 3.0])?;
    for x in [host.leaf(), host.to_cuda(&cuda, DType::F32)?.leaf()] {
        let y = apply(Cube, &[&x])?;
        let mut gradients = Gradients::of_leaves();
        y.sum(&[0])?.backward(&mut gradients)?;
        let dx = gradients.of(&x).expect("y depends on x").to_host()?;
        println!("{:?}: y {:?}, dx {:?}", x.device(), y.to_host()?.to_f64()?, dx.to_f64()?);
    }
    Ok(())
}
