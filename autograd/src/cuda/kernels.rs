//! Kernels on a device: compiled once, cached, launched.
//!
//! Several threads may compile at once, each another text. The map is locked only to look a text up; a thread waits if
//! another thread is compiling its text.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex},
};

use rayon::prelude::*;
use ssmv_kernels::{Kernel, Work};

use super::{
    device::Cuda,
    driver::{Argument, Driver, Function, FunctionAttributes, LaunchConfig, Module, Stream},
    plan::LoadedPlan,
    table::lock,
};
use crate::Result;

/// Caches of compiled kernels and plans.
#[derive(Debug, Default)]
pub(super) struct Kernels {
    /// By name; several texts may share a name.
    texts: Mutex<HashMap<String, Vec<Arc<Text>>>>,
    /// For each type of specification, a map from specifications to [`LoadedPlan`].
    specified: Mutex<HashMap<TypeId, Box<dyn Any + Send>>>,
    /// The launched kernels, while they are recorded.
    launched: Mutex<Option<Vec<LoadedKernel>>>,
}

/// A PTX text and its compiled code.
#[derive(Debug)]
struct Text {
    /// The kernel, with the launch shape of its first request.
    kernel: Kernel,
    /// Locked while a thread compiles it; `None` before, and if the compiler refused it.
    code: Mutex<Option<Arc<Compiled>>>,
}

#[derive(Debug)]
struct Compiled {
    name: String,
    module: Module,
    function: Function,
    attributes: FunctionAttributes,
    /// Dynamic shared memory in bytes that the driver was asked to allow.
    allowed_shared: Mutex<u32>,
}

/// A kernel on the device, with its launch shape.
#[derive(Clone, Debug)]
pub struct LoadedKernel {
    code: Arc<Compiled>,
    config: LaunchConfig,
    work: Work,
}

impl LoadedKernel {
    /// Name of its entry point.
    pub fn name(&self) -> &str {
        &self.code.name
    }

    /// The shape of its launches.
    pub fn config(&self) -> &LaunchConfig {
        &self.config
    }

    /// Registers and memory of the compiled kernel.
    pub fn attributes(&self) -> &FunctionAttributes {
        &self.code.attributes
    }

    /// The bytes it must move and the operations it must do.
    pub fn work(&self) -> Work {
        self.work
    }

    /// The same kernel with another number of blocks along x, for kernels that run with any number.
    #[must_use]
    pub fn with_blocks(&self, blocks: u32) -> Self {
        let [_, y, z] = self.config.grid;
        Self { config: LaunchConfig { grid: [blocks, y, z], ..self.config }, ..self.clone() }
    }

    /// Whether both run the same compiled text.
    pub fn shares_code(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.code, &other.code)
    }
}

impl Kernels {
    /// The code of a kernel; calls `compile` if no thread has compiled it yet.
    fn compiled(
        &self,
        kernel: &Kernel,
        compile: impl FnOnce(&Kernel) -> Result<Compiled>,
    ) -> Result<Arc<Compiled>> {
        let text = self.text(kernel);
        let mut code = lock(&text.code);
        if let Some(code) = &*code {
            return Ok(code.clone());
        }
        Ok(code.insert(Arc::new(compile(kernel)?)).clone())
    }

    fn text(&self, kernel: &Kernel) -> Arc<Text> {
        let mut texts = lock(&self.texts);
        let same_name = texts.entry(kernel.name.clone()).or_default();
        if let Some(found) = same_name.iter().find(|found| found.kernel.ptx == kernel.ptx) {
            return found.clone();
        }
        let new = Arc::new(Text { kernel: kernel.clone(), code: Mutex::default() });
        same_name.push(new.clone());
        new
    }

    fn specified<S: Eq + Hash + Send + 'static, R: Default>(
        &self,
        body: impl FnOnce(&mut HashMap<S, LoadedPlan>) -> R,
    ) -> R {
        let mut maps = lock(&self.specified);
        let map = maps.entry(TypeId::of::<S>()).or_insert_with(|| Box::<HashMap<S, LoadedPlan>>::default());
        // The key is the type, so the downcast always succeeds.
        map.downcast_mut().map(body).unwrap_or_default()
    }

    /// Unloads the modules of all kernels.
    pub fn unload(&self, driver: &dyn Driver) {
        for text in lock(&self.texts).drain().flat_map(|(_, same_name)| same_name) {
            if let Some(code) = lock(&text.code).take() {
                let _ = driver.unload_module(code.module);
            }
        }
    }
}

/// Compiles a kernel with the device's compiler.
fn compile(driver: &dyn Driver, kernel: &Kernel) -> Result<Compiled> {
    let module = driver.load(kernel)?;
    let function = driver.function(module)?;
    let attributes = driver.attributes(function)?;
    Ok(Compiled { name: kernel.name.clone(), module, function, attributes, allowed_shared: Mutex::new(0) })
}

impl Cuda {
    /// Compiles a kernel, or finds it in the cache.
    ///
    /// # Errors
    /// [`Error::Ptx`](crate::Error::Ptx) with the compiler's log if the text is refused.
    pub fn load(&self, kernel: &Kernel) -> Result<LoadedKernel> {
        let shared = self.shared();
        let code = shared.kernels.compiled(kernel, |kernel| compile(&*shared.driver, kernel))?;
        let mut allowed = lock(&code.allowed_shared);
        // The driver keeps the last value it was given, so only larger values are passed on.
        if kernel.shared > *allowed {
            shared.driver.allow_shared(code.function, kernel.shared)?;
            *allowed = kernel.shared;
        }
        drop(allowed);
        let config = LaunchConfig { grid: kernel.grid, block: kernel.block, shared: kernel.shared };
        Ok(LoadedKernel { code, config, work: kernel.work })
    }

    /// Compiles kernels on all compute threads and calls `each` after each of them.
    ///
    /// # Errors
    /// The error of a refused kernel; others may then not be compiled.
    pub fn load_all(&self, kernels: &[Kernel], each: impl Fn() + Sync) -> Result<()> {
        kernels.par_iter().try_for_each(|kernel| {
            self.load(kernel)?;
            each();
            Ok(())
        })
    }

    /// All kernels compiled so far, sorted by name.
    pub fn kernels(&self) -> Vec<Kernel> {
        // Unlock the map first: the next line waits for texts that are being compiled.
        let texts: Vec<_> = lock(&self.shared().kernels.texts).values().flatten().cloned().collect();
        let compiled = texts.iter().filter(|text| lock(&text.code).is_some());
        let mut all: Vec<Kernel> = compiled.map(|text| text.kernel.clone()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The cached plan of a specification.
    pub(super) fn find_plan<S: Clone + Eq + Hash + Send + 'static>(
        &self,
        specification: &S,
    ) -> Option<LoadedPlan> {
        self.shared().kernels.specified::<S, _>(|known| known.get(specification).cloned())
    }

    /// Caches the plan of a specification, so that a step neither generates nor compares text.
    pub(super) fn keep_plan<S: Clone + Eq + Hash + Send + 'static>(
        &self,
        specification: &S,
        plan: &LoadedPlan,
    ) {
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
        shared.driver.launch(kernel.code.function, &kernel.config, arguments, stream)?;
        if let Some(launched) = &mut *lock(&shared.kernels.launched) {
            launched.push(kernel.clone());
        }
        Ok(())
    }

    /// Starts or stops recording launched kernels for [`Cuda::take_launched`].
    pub fn keep_launched(&self, keep: bool) {
        *lock(&self.shared().kernels.launched) = keep.then(Vec::new);
    }

    /// The kernels launched since the last call, in order; empty unless they are recorded.
    pub fn take_launched(&self) -> Vec<LoadedKernel> {
        lock(&self.shared().kernels.launched).as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Loads and launches a kernel: [`Cuda::load`] and [`Cuda::launch`].
    pub fn run(&self, kernel: &Kernel, arguments: &[Argument]) -> Result<()> {
        self.launch(&self.load(kernel)?, arguments)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        thread,
        time::Duration,
    };

    use ssmv_kernels::Target;

    use super::*;
    use crate::Error;

    fn kernel(name: &str) -> Kernel {
        Kernel::by_hand(name, Target::Sm80, format!("// {name}"))
    }

    fn made(kernel: &Kernel) -> Compiled {
        let attributes = FunctionAttributes::default();
        let (module, function) = (Module(1), Function(1));
        Compiled { name: kernel.name.clone(), module, function, attributes, allowed_shared: Mutex::new(0) }
    }

    #[test]
    fn two_texts_are_compiled_at_once() {
        let kernels = &Kernels::default();
        let (begun, other_begun) = mpsc::channel();
        let met = thread::scope(|scope| {
            // The first is done once the second has begun.
            let first = scope.spawn(move || {
                let code = kernels.compiled(&kernel("first"), |kernel| {
                    other_begun
                        .recv_timeout(Duration::from_secs(20))
                        .map_err(|e| Error::misuse("wait", e.to_string()))?;
                    Ok(made(kernel))
                });
                code.map(drop)
            });
            scope.spawn(move || {
                kernels.compiled(&kernel("second"), |kernel| {
                    begun.send(()).unwrap();
                    Ok(made(kernel))
                })
            });
            first.join().unwrap()
        });
        assert_eq!(met, Ok(()));
    }

    #[test]
    fn one_text_is_compiled_once_however_many_ask() {
        let (kernels, compiled) = (Kernels::default(), AtomicUsize::new(0));
        let slowly = |kernel: &Kernel| {
            thread::sleep(Duration::from_millis(50));
            compiled.fetch_add(1, Ordering::SeqCst);
            Ok(made(kernel))
        };
        thread::scope(|scope| {
            (0..4).for_each(|_| drop(scope.spawn(|| kernels.compiled(&kernel("same"), slowly).unwrap())));
        });
        assert_eq!(compiled.into_inner(), 1);
    }

    #[test]
    fn a_text_that_is_refused_is_refused_again() {
        let kernels = Kernels::default();
        let refuse = |_: &Kernel| Err(Error::misuse("compile", "no"));
        assert!(kernels.compiled(&kernel("bad"), refuse).is_err());
        assert!(kernels.compiled(&kernel("bad"), refuse).is_err());
        assert!(kernels.compiled(&kernel("bad"), |kernel| Ok(made(kernel))).is_ok());
    }
}
