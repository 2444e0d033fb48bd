//! Kernels on a device: compiled once, found again, launched.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex},
};

use ssmv_kernels::{Kernel, Work};

use super::{
    device::Cuda,
    driver::{Argument, Driver, Function, FunctionAttributes, Geometry, Module, Stream},
    plan::Plan,
    table::lock,
};
use crate::Result;

/// What a device has compiled.
#[derive(Debug, Default)]
pub(super) struct Kernels {
    /// By name; texts of one name stand side by side.
    compiled: Mutex<HashMap<String, Vec<Arc<Compiled>>>>,
    /// For each type of specification, a map from specifications to [`Plan`].
    specified: Mutex<HashMap<TypeId, Box<dyn Any + Send>>>,
    /// What was launched, where that is kept.
    launched: Mutex<Option<Vec<LoadedKernel>>>,
}

#[derive(Debug)]
struct Compiled {
    /// With the launch of whoever asked first.
    kernel: Kernel,
    module: Module,
    function: Function,
    attributes: FunctionAttributes,
    /// Bytes of dynamic shared memory that the driver was asked to allow.
    allowed_shared: Mutex<u32>,
}

/// A kernel on the device, with the geometry that it was written for.
#[derive(Clone, Debug)]
pub struct LoadedKernel {
    code: Arc<Compiled>,
    geometry: Geometry,
    work: Work,
}

impl LoadedKernel {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.code.kernel.name
    }

    /// The shape of its launches.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// What the compiler made of it.
    pub fn attributes(&self) -> &FunctionAttributes {
        &self.code.attributes
    }

    /// What it must move and do.
    pub fn work(&self) -> Work {
        self.work
    }

    /// The same with another number of blocks along x: for kernels that any number does.
    #[must_use]
    pub fn with_blocks(&self, blocks: u32) -> Self {
        let [_, y, z] = self.geometry.grid;
        Self { geometry: Geometry { grid: [blocks, y, z], ..self.geometry }, ..self.clone() }
    }

    /// Whether two run the same compiled text.
    pub fn shares_code(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.code, &other.code)
    }
}

impl Kernels {
    fn compiled(&self, driver: &dyn Driver, kernel: &Kernel) -> Result<Arc<Compiled>> {
        let mut compiled = lock(&self.compiled);
        let same_name = compiled.entry(kernel.name.clone()).or_default();
        if let Some(found) = same_name.iter().find(|found| found.kernel.ptx == kernel.ptx) {
            return Ok(found.clone());
        }
        let module = driver.load_module(&kernel.name, &kernel.ptx)?;
        let function = driver.function(module, &kernel.name)?;
        let new = Arc::new(Compiled {
            kernel: kernel.clone(),
            module,
            function,
            attributes: driver.attributes(function)?,
            allowed_shared: Mutex::new(0),
        });
        same_name.push(new.clone());
        Ok(new)
    }

    fn specified<S: Eq + Hash + Send + 'static, R: Default>(
        &self,
        body: impl FnOnce(&mut HashMap<S, Plan>) -> R,
    ) -> R {
        let mut maps = lock(&self.specified);
        let map = maps.entry(TypeId::of::<S>()).or_insert_with(|| Box::<HashMap<S, Plan>>::default());
        // The key is the type, so the map is always of it.
        map.downcast_mut().map(body).unwrap_or_default()
    }

    /// Forgets all of it.
    pub fn unload(&self, driver: &dyn Driver) {
        for code in lock(&self.compiled).drain().flat_map(|(_, same_name)| same_name) {
            let _ = driver.unload_module(code.module);
        }
    }
}

impl Cuda {
    /// Compiles a kernel, or finds it where its text was compiled before.
    ///
    /// # Errors
    /// [`Error::Ptx`](crate::Error::Ptx) with the compiler's log when the text is refused.
    pub fn load(&self, kernel: &Kernel) -> Result<LoadedKernel> {
        let shared = self.shared();
        let code = shared.kernels.compiled(&*shared.driver, kernel)?;
        let mut allowed = lock(&code.allowed_shared);
        // The driver takes the last word for it, so the word only ever grows.
        if kernel.shared > *allowed {
            shared.driver.allow_shared(code.function, kernel.shared)?;
            *allowed = kernel.shared;
        }
        drop(allowed);
        let geometry = Geometry { grid: kernel.grid, block: kernel.block, shared: kernel.shared };
        Ok(LoadedKernel { code, geometry, work: kernel.work })
    }

    /// All kernels that were compiled so far, by name.
    pub fn kernels(&self) -> Vec<Kernel> {
        let compiled = lock(&self.shared().kernels.compiled);
        let mut all: Vec<Kernel> = compiled.values().flatten().map(|code| code.kernel.clone()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The plan that was kept for a specification.
    pub(super) fn find_plan<S: Clone + Eq + Hash + Send + 'static>(&self, specification: &S) -> Option<Plan> {
        self.shared().kernels.specified::<S, _>(|known| known.get(specification).cloned())
    }

    /// Keeps a plan for a specification, so that a step neither writes text nor compares it.
    pub(super) fn keep_plan<S: Clone + Eq + Hash + Send + 'static>(&self, specification: &S, plan: &Plan) {
        self.shared().kernels.specified::<S, _>(|known| known.insert(specification.clone(), plan.clone()));
    }

    /// Runs a kernel, in the order of the compute stream.
    ///
    /// # Errors
    /// [`Error::Misuse`](crate::Error::Misuse) when the arguments' number or sizes are not those of its parameters.
    pub fn launch(&self, kernel: &LoadedKernel, arguments: &[Argument]) -> Result<()> {
        self.launch_in(kernel, arguments, self.shared().compute)
    }

    /// [`Cuda::launch`] in the order of another stream.
    pub fn launch_in(&self, kernel: &LoadedKernel, arguments: &[Argument], stream: Stream) -> Result<()> {
        let shared = self.shared();
        shared.driver.launch(kernel.code.function, &kernel.geometry, arguments, stream)?;
        if let Some(launched) = &mut *lock(&shared.kernels.launched) {
            launched.push(kernel.clone());
        }
        Ok(())
    }

    /// From now on keeps which kernels are launched, for [`Cuda::take_launched`], or no longer.
    pub fn keep_launched(&self, keep: bool) {
        *lock(&self.shared().kernels.launched) = keep.then(Vec::new);
    }

    /// The kernels that were launched since the last call, in their order; empty where they are not kept.
    pub fn take_launched(&self) -> Vec<LoadedKernel> {
        lock(&self.shared().kernels.launched).as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// [`Cuda::load`] and [`Cuda::launch`].
    pub fn run(&self, kernel: &Kernel, arguments: &[Argument]) -> Result<()> {
        self.launch(&self.load(kernel)?, arguments)
    }
}
