//! Launches: several kernels and a workspace, cached under one specification.

use std::hash::Hash;

use ssmv_kernels::{Kernel, Plan, Target};

use super::{
    buffer::DeviceBuffer,
    device::Cuda,
    driver::{Argument, DeviceInfo},
    kernels::LoadedKernel,
    pool::Purpose,
};
use crate::{DType, Error, Result};

/// Kernels that are launched in order with the same arguments, and the size of their shared workspace in bytes.
#[derive(Clone, Debug, Default)]
pub struct LoadedPlan {
    kernels: Vec<(LoadedKernel, usize)>,
    workspace: u64,
}

impl LoadedPlan {
    /// Its kernels in the order of their launches.
    pub fn kernels(&self) -> impl Iterator<Item = &LoadedKernel> {
        self.kernels.iter().map(|(kernel, _)| kernel)
    }

    /// Runs the kernels, in the order of the compute stream. A kernel with one parameter more than `arguments` gets the
    /// workspace as the last one.
    pub fn launch(&self, cuda: &Cuda, arguments: &[Argument]) -> Result<()> {
        let wanted = self.kernels.iter().any(|(_, parameters)| *parameters == arguments.len() + 1);
        let workspace = if wanted { Some(self.workspace(cuda)?) } else { None };
        let with: Vec<Argument> =
            arguments.iter().copied().chain(workspace.as_ref().map(Argument::from)).collect();
        for (kernel, parameters) in &self.kernels {
            // `launch` refuses any other number of arguments.
            let given = if *parameters == with.len() { &with[..] } else { arguments };
            cuda.launch(kernel, given)?;
        }
        Ok(())
    }

    /// Runs one kernel from `x` to `y`, or two that pass values through the workspace.
    pub fn launch_through(&self, cuda: &Cuda, x: Argument, y: Argument) -> Result<()> {
        match &self.kernels[..] {
            [(first, _), (second, _)] => {
                let workspace = self.workspace(cuda)?;
                cuda.launch(first, &[x, (&workspace).into()])?;
                cuda.launch(second, &[(&workspace).into(), y])
            }
            kernels => kernels.iter().try_for_each(|(kernel, _)| cuda.launch(kernel, &[x, y])),
        }
    }

    /// Allocates the workspace, for launches where it is not the last argument.
    pub fn workspace(&self, cuda: &Cuda) -> Result<DeviceBuffer<u8>> {
        DeviceBuffer::new(cuda, self.workspace.max(4) as usize, Purpose::Workspace)
    }
}

impl Cuda {
    /// The newest PTX target that the device and its driver support.
    pub fn target(&self) -> Target {
        target(self.device())
    }

    /// The kernels of a specification and their workspace. They are generated and compiled the first time, and found by
    /// the specification later; two specifications of one type must differ if their kernels do.
    pub fn plan<S>(
        &self,
        specification: &S,
        write: impl FnOnce(&S, Target) -> ssmv_kernels::Result<Plan>,
    ) -> Result<LoadedPlan>
    where
        S: Clone + Eq + Hash + Send + 'static,
    {
        if let Some(found) = self.find_plan(specification) {
            return Ok(found);
        }
        let Plan { kernels, workspace_bytes: workspace } = write(specification, self.target())?;
        let load = |kernel: Kernel| Ok((self.load(&kernel)?, kernel.parameters.len()));
        let kernels = kernels.into_iter().map(load).collect::<Result<Vec<_>>>()?;
        let plan = LoadedPlan { kernels, workspace };
        self.keep_plan(specification, &plan);
        Ok(plan)
    }

    /// Launches the one kernel of [`Cuda::plan`].
    pub fn launch_one<S>(
        &self,
        specification: &S,
        arguments: &[Argument],
        write: impl FnOnce(&S, Target) -> ssmv_kernels::Result<Kernel>,
    ) -> Result<()>
    where
        S: Clone + Eq + Hash + Send + 'static,
    {
        self.plan(specification, |s, target| Ok(write(s, target)?.into()))?.launch(self, arguments)
    }
}

/// CUDA 12.0 introduced PTX 8.0, which the kernels for sm_90a use.
fn target(device: &DeviceInfo) -> Target {
    match (device.capability, device.driver >= (12, 0)) {
        ((9, 0), true) => Target::Sm90a,
        _ => Target::Sm80,
    }
}

/// A size in the kernels' integer type.
///
/// # Errors
/// [`Error::Shape`] beyond 2³² − 2¹², the largest size of the kernels.
pub(crate) fn size(op: &'static str, n: usize) -> Result<u32> {
    let fits = u32::try_from(n).ok().filter(|&n| n <= u32::MAX - (1 << 12));
    fits.ok_or_else(|| {
        Error::shape(op, format!("{n} elements are more than a kernel counts; take a smaller batch"))
    })
}

/// The kernels' name for a device dtype.
pub(crate) fn kernel_dtype(dtype: DType) -> ssmv_kernels::gemm::Dtype {
    match dtype {
        DType::F16 => ssmv_kernels::gemm::Dtype::F16,
        _ => ssmv_kernels::gemm::Dtype::F32,
    }
}

/// Runs the body with `$T` as the kernels' element type of `$dtype`: f16 or f32, the dtypes of device tensors.
macro_rules! dispatch_cuda {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F16 => {
                type $T = ssmv_kernels::ptx::F16;
                $body
            }
            _ => {
                type $T = ssmv_kernels::ptx::F32;
                $body
            }
        }
    };
}
pub(crate) use dispatch_cuda;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::Counting;

    #[test]
    fn an_older_driver_gets_the_older_text() {
        let with = |capability, driver| target(&DeviceInfo { capability, driver, ..Counting::describe() });
        assert_eq!(with((9, 0), (12, 0)), Target::Sm90a);
        assert_eq!(with((9, 0), (11, 8)), Target::Sm80);
        assert_eq!(with((8, 0), (12, 9)), Target::Sm80);
        assert_eq!(with((12, 0), (13, 0)), Target::Sm80);
    }
}
