//! Modules: parsed and decoded text, and its variables in a device's memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::decode;
use super::program::{Program, function_address};
use crate::error::{Error, Result};
use crate::memory::{HEAP_BYTES, Heap, Memory};
use crate::space::StateSpace;
use crate::syntax::{self, ParseError, Variable};

/// A parameter of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Name in the text.
    pub name: String,
    /// Size in bytes; an argument has as many.
    pub bytes: usize,
    /// Alignment in bytes among the parameters.
    pub align: usize,
}

/// Properties of a kernel that a launch needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelInfo {
    /// The name in the text, by which [`launch`](crate::launch) finds it.
    pub name: String,
    /// The parameters, in the order of the arguments.
    pub parameters: Vec<Parameter>,
    /// Static shared memory of a block in bytes.
    pub static_shared: u32,
    /// The required block shape (`.reqntid`).
    pub required_block: Option<[u32; 3]>,
    /// The most threads of a block (`.maxntid`).
    pub max_threads: Option<u32>,
}

/// A kernel and its code.
#[derive(Debug)]
pub(super) struct EntryPoint {
    pub info: KernelInfo,
    pub program: Program,
    pub ordered: bool,
    /// The required shape of a cluster, in blocks.
    pub cluster: [u32; 3],
}

/// A variable in global memory.
#[derive(Debug)]
struct Global {
    name: String,
    bytes: u64,
    initial: Vec<u8>,
    /// Whether it lacks an initial value: it is zero, as in CUDA.
    uninitialised: bool,
    /// Whether it is in constant memory.
    constant: bool,
    /// Whether it is declared within a function.
    inner: bool,
    patches: Vec<Patch>,
}

/// An address in the initial bytes of a variable.
#[derive(Debug)]
struct Patch {
    /// Offset in the initial bytes.
    at: usize,
    bytes: usize,
    target: PatchTarget,
    offset: i64,
    /// Number of low bits of the address that are dropped.
    shift: u32,
}

/// Index of the variable or function with this address.
#[derive(Debug, Clone, Copy)]
enum PatchTarget {
    Global(usize),
    Function(usize),
}

/// A parsed and decoded module of PTX.
#[derive(Debug)]
pub struct Module {
    inner: Arc<ParsedModule>,
}

#[derive(Debug)]
pub(super) struct ParsedModule {
    pub name: String,
    pub text: String,
    pub kernels: Vec<EntryPoint>,
    globals: Vec<Global>,
    /// For each variable of the unit in global memory, its index in `globals`.
    global_of: HashMap<usize, usize>,
}

impl Module {
    /// Parses PTX text; `name` is the module's name in errors.
    ///
    /// # Errors
    /// [`Error::Parse`] has the line and the reason.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let inner = parse(name, text).map_err(|ParseError { line, message }| Error::Parse {
            module: name.to_owned(),
            line,
            message,
        })?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The kernels, in the order of the text.
    pub fn kernels(&self) -> impl Iterator<Item = &KernelInfo> {
        self.inner.kernels.iter().map(|kernel| &kernel.info)
    }

    /// The kernel with this name.
    pub fn kernel(&self, name: &str) -> Option<&KernelInfo> {
        self.kernels().find(|kernel| kernel.name == name)
    }

    /// Loads the module into a device: allocates and initialises its variables, and the heap if a kernel uses `malloc`.
    ///
    /// # Errors
    /// [`Error::Usage`] if the memory has no space for them.
    pub fn load(&self, memory: &Memory) -> Result<LoadedModule> {
        let inner = &self.inner;
        let mut addresses: Vec<u64> = Vec::new();
        for global in &inner.globals {
            match memory.alloc(global.bytes.max(1) as usize) {
                Ok(address) => addresses.push(address),
                Err(error) => {
                    release(memory, &addresses);
                    return Err(Error::Usage(format!("{}: variable {}: {error}", inner.name, global.name)));
                }
            }
        }
        for (global, &address) in inner.globals.iter().zip(&addresses) {
            let mut initial = global.initial.clone();
            for &Patch { at, bytes, target, offset, shift } in &global.patches {
                let address = match target {
                    PatchTarget::Global(global) => addresses.get(global).copied().unwrap_or(0),
                    PatchTarget::Function(function) => function_address(function),
                };
                let value = address.wrapping_add(offset as u64) >> shift;
                if let Some(patched) = initial.get_mut(at..at + bytes) {
                    patched.copy_from_slice(&value.to_le_bytes()[..bytes]);
                }
            }
            // CUDA's variables without an initialiser are zero.
            if global.uninitialised || initial.len() as u64 != global.bytes {
                memory.fill(address, 0, global.bytes as usize)?;
            }
            if !initial.is_empty() {
                memory.write(address, &initial)?;
            }
        }
        let placed = inner.globals.iter().zip(addresses.iter().copied());
        let mut programs = Vec::new();
        for kernel in &inner.kernels {
            let mut program = kernel.program.clone();
            for relocation in &program.relocations {
                let found = inner.global_of.get(&relocation.variable).and_then(|&g| addresses.get(g));
                let value = found.copied().unwrap_or(0).wrapping_add(relocation.offset as u64);
                if let Some(column) = program.constants64.get_mut(relocation.constant) {
                    column.fill(value);
                }
            }
            program.constant_ranges =
                placed.clone().filter(|(g, _)| g.constant).map(|(g, a)| (a, g.bytes)).collect();
            programs.push(program);
        }
        let heap = if programs.iter().any(|program| program.heap) {
            match memory.alloc(HEAP_BYTES as usize) {
                Ok(base) => Some(Mutex::new(Heap::new(base, HEAP_BYTES))),
                Err(error) => {
                    release(memory, &addresses);
                    return Err(Error::Usage(format!("{}: the heap of malloc: {error}", inner.name)));
                }
            }
        } else {
            None
        };
        let variables =
            placed.filter(|(g, _)| !g.inner).map(|(g, a)| (g.name.clone(), (a, g.bytes as usize))).collect();
        if let Some(heap) = &heap {
            addresses.push(heap.lock().unwrap_or_else(PoisonError::into_inner).base());
        }
        Ok(LoadedModule { inner: Arc::clone(inner), programs, variables, addresses, heap })
    }
}

fn release(memory: &Memory, addresses: &[u64]) {
    for &address in addresses {
        // These allocations are the loader's own; an error here has no remedy.
        let _ = memory.free(address);
    }
}

/// A module in a device's memory.
#[derive(Debug)]
pub struct LoadedModule {
    pub(super) inner: Arc<ParsedModule>,
    /// The program of each kernel, with the addresses of variables.
    pub(super) programs: Vec<Program>,
    /// Address and size in bytes, by name.
    variables: HashMap<String, (u64, usize)>,
    /// The allocations of all variables and of the heap.
    addresses: Vec<u64>,
    /// The heap of `malloc`; `None` if no kernel uses it.
    pub(super) heap: Option<Mutex<Heap>>,
}

impl LoadedModule {
    /// The kernels, in the order of the text.
    pub fn kernels(&self) -> impl Iterator<Item = &KernelInfo> {
        self.inner.kernels.iter().map(|kernel| &kernel.info)
    }

    /// Address and size in bytes of a global or constant variable.
    pub fn variable(&self, name: &str) -> Option<(u64, usize)> {
        self.variables.get(name).copied()
    }

    /// Frees the variables and the heap.
    ///
    /// # Errors
    /// [`Error::Usage`] if the module was loaded into another memory.
    pub fn unload(self, memory: &Memory) -> Result<()> {
        for address in self.addresses {
            memory.free(address)?;
        }
        Ok(())
    }
}

fn parse(name: &str, text: &str) -> syntax::Parsed<ParsedModule> {
    let unit = syntax::parse(text)?;
    let names = decode::ModuleNames::new(&unit)?;
    let (globals, global_of) = globals(&names)?;
    let kernels = decode::kernels(&names)?;
    let mut out = Vec::new();
    for (index, decode::DecodedKernel { program, static_shared, ordered }) in kernels {
        let function = &unit.functions[index];
        let mut parameters = Vec::new();
        let mut total = 0u64;
        for parameter in &function.parameters {
            total = total.next_multiple_of(parameter.align.max(1)).saturating_add(parameter.bytes);
            // The limit of sm_70 and later since PTX 8.1.
            if total > 32764 {
                let message =
                    format!("{} has {total} bytes of parameters; at most 32764 are possible", function.name);
                return Err(ParseError::new(parameter.line, message));
            }
            parameters.push(Parameter {
                name: parameter.name.to_owned(),
                bytes: parameter.bytes as usize,
                align: parameter.align as usize,
            });
        }
        let info = KernelInfo {
            name: function.name.to_owned(),
            parameters,
            static_shared,
            required_block: function.required_block,
            max_threads: function.max_threads.map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
        };
        let cluster = function.cluster.unwrap_or([1; 3]);
        out.push(EntryPoint { info, program, ordered, cluster });
    }
    Ok(ParsedModule { name: name.to_owned(), text: text.to_owned(), kernels: out, globals, global_of })
}

/// The module's variables in global memory; a declaration and its definition are one.
fn globals(names: &decode::ModuleNames<'_, '_>) -> syntax::Parsed<(Vec<Global>, HashMap<usize, usize>)> {
    let variables = || names.unit.variables.iter().enumerate();
    let lasting = |v: &Variable<'_>| matches!(v.space, StateSpace::Global | StateSpace::Const);
    let mut globals: Vec<Global> = Vec::new();
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    let mut global_of = HashMap::new();
    for (index, variable) in variables().filter(|(_, v)| lasting(v)) {
        let new = globals.len();
        let slot = if variable.inner { new } else { *by_name.entry(variable.name).or_insert(new) };
        if slot == new {
            globals.push(Global {
                name: variable.name.to_owned(),
                bytes: 0,
                initial: Vec::new(),
                uninitialised: true,
                constant: variable.space == StateSpace::Const,
                inner: variable.inner,
                patches: Vec::new(),
            });
        }
        global_of.insert(index, slot);
        let global = &mut globals[slot];
        global.bytes = global.bytes.max(variable.bytes);
        if let Some(initial) = &variable.initial {
            global.initial.clone_from(&initial.bytes);
            global.uninitialised = false;
        }
    }
    for (index, variable) in variables().filter(|(_, v)| lasting(v)) {
        let Some(&slot) = global_of.get(&index) else { continue };
        if variable.external && globals[slot].bytes == 0 {
            let message = format!("{} is declared but not defined", variable.name);
            return Err(ParseError::new(variable.line, message));
        }
        for patch in variable.initial.iter().flat_map(|initial| &initial.patches) {
            let target = match patch_target(names, &global_of, patch.target) {
                Ok(target) => target,
                Err(message) => return Err(ParseError::new(variable.line, message)),
            };
            let syntax::Patch { at, bytes, offset, shift, .. } = *patch;
            globals[slot].patches.push(Patch { at, bytes, target, offset, shift });
        }
    }
    Ok((globals, global_of))
}

/// The variable or function whose address an initialiser takes, or an error message.
fn patch_target(
    names: &decode::ModuleNames<'_, '_>,
    global_of: &HashMap<usize, usize>,
    target: syntax::Target<'_>,
) -> Result<PatchTarget, String> {
    let name = match target {
        syntax::Target::Inner(variable) => {
            return global_of
                .get(&variable)
                .map(|&g| PatchTarget::Global(g))
                .ok_or_else(|| "no such variable".to_owned());
        }
        syntax::Target::Name(name) => name,
    };
    if let Some(&global) = names.variables.get(name).and_then(|variable| global_of.get(variable)) {
        return Ok(PatchTarget::Global(global));
    }
    match names.functions.get(name) {
        Some(&function) if names.unit.functions[function].body.is_some() => {
            Ok(PatchTarget::Function(function))
        }
        Some(_) => Err(format!("{name} is declared but not defined")),
        None => {
            Err(format!("{name} is not a global variable or function whose address could initialise another"))
        }
    }
}
