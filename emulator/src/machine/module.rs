//! Modules: text that was understood, and what it looks like in a device's memory.

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
    /// The name in the text.
    pub name: String,
    /// Size in bytes; an argument has as many.
    pub bytes: usize,
    /// Alignment in bytes among the parameters.
    pub align: usize,
}

/// What a launch of a kernel must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelInfo {
    /// The name in the text, by which [`launch`](crate::launch) finds it.
    pub name: String,
    /// The parameters, in the order of the arguments.
    pub parameters: Vec<Parameter>,
    /// Static shared memory of a block in bytes.
    pub static_shared: u32,
    /// The block shape that it requires (`.reqntid`).
    pub required_block: Option<[u32; 3]>,
    /// The most threads of a block that it allows (`.maxntid`).
    pub max_threads: Option<u32>,
}

/// A kernel and its code.
#[derive(Debug)]
pub(super) struct Kernel {
    pub info: KernelInfo,
    pub program: Program,
    pub ordered: bool,
    /// Blocks of a cluster that it demands.
    pub cluster: [u32; 3],
}

/// A variable in global memory.
#[derive(Debug)]
struct Global {
    name: String,
    bytes: u64,
    initial: Vec<u8>,
    /// Nothing wrote it before the kernel does.
    blank: bool,
    /// In constant memory.
    constant: bool,
    /// Its name holds within a function alone.
    inner: bool,
    patches: Vec<Patch>,
}

/// An address in a variable's initial bytes.
#[derive(Debug)]
struct Patch {
    /// Where in the bytes, and how many of them.
    at: usize,
    bytes: usize,
    of: Of,
    offset: i64,
    /// Low bits that are left out.
    shift: u32,
}

/// Whose address it is.
#[derive(Debug, Clone, Copy)]
enum Of {
    Global(usize),
    Function(usize),
}

/// A module of PTX.
#[derive(Debug)]
pub struct Module {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub name: String,
    pub text: String,
    pub kernels: Vec<Kernel>,
    globals: Vec<Global>,
    /// The global of each of the unit's variables.
    global_of: HashMap<usize, usize>,
}

impl Module {
    /// Reads PTX text; `name` stands in errors.
    ///
    /// # Errors
    /// [`Error::Parse`] names the line and what was not understood there.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let inner = parse(name, text).map_err(|ParseError { line, message }| Error::Parse {
            module: name.to_owned(),
            line,
            message,
        })?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Its kernels, in the text's order.
    pub fn kernels(&self) -> impl Iterator<Item = &KernelInfo> {
        self.inner.kernels.iter().map(|kernel| &kernel.info)
    }

    /// The kernel of this name.
    pub fn kernel(&self, name: &str) -> Option<&KernelInfo> {
        self.kernels().find(|kernel| kernel.name == name)
    }

    /// Puts the module's variables into a device's memory.
    ///
    /// # Errors
    /// [`Error::Usage`] where they do not fit.
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
            for &Patch { at, bytes, of, offset, shift } in &global.patches {
                let address = match of {
                    Of::Global(global) => addresses.get(global).copied().unwrap_or(0),
                    Of::Function(function) => function_address(function),
                };
                let value = address.wrapping_add(offset as u64) >> shift;
                if let Some(place) = initial.get_mut(at..at + bytes) {
                    place.copy_from_slice(&value.to_le_bytes()[..bytes]);
                }
            }
            // CUDA's variables without an initialiser are zero.
            if global.blank || initial.len() as u64 != global.bytes {
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
        // What was allocated here is freed here; there is nothing else to be done if that fails.
        let _ = memory.free(address);
    }
}

/// A module in a device's memory.
#[derive(Debug)]
pub struct LoadedModule {
    pub(super) inner: Arc<Inner>,
    /// One for each kernel, with the variables' addresses.
    pub(super) programs: Vec<Program>,
    /// Address and size in bytes, by name.
    variables: HashMap<String, (u64, usize)>,
    /// Of all variables, those within functions too, and of the heap.
    addresses: Vec<u64>,
    /// What kernels take by `malloc`, if one does.
    pub(super) heap: Option<Mutex<Heap>>,
}

impl LoadedModule {
    /// Its kernels, in the text's order.
    pub fn kernels(&self) -> impl Iterator<Item = &KernelInfo> {
        self.inner.kernels.iter().map(|kernel| &kernel.info)
    }

    /// Address and size in bytes of a global or constant variable.
    pub fn variable(&self, name: &str) -> Option<(u64, usize)> {
        self.variables.get(name).copied()
    }

    /// Frees its variables.
    ///
    /// # Errors
    /// [`Error::Usage`] if `memory` is not the one that it was loaded into.
    pub fn unload(self, memory: &Memory) -> Result<()> {
        for address in self.addresses {
            memory.free(address)?;
        }
        Ok(())
    }
}

fn parse(name: &str, text: &str) -> syntax::Parsed<Inner> {
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
        out.push(Kernel { info, program, ordered, cluster });
    }
    Ok(Inner { name: name.to_owned(), text: text.to_owned(), kernels: out, globals, global_of })
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
        let place = if variable.inner { new } else { *by_name.entry(variable.name).or_insert(new) };
        if place == new {
            globals.push(Global {
                name: variable.name.to_owned(),
                bytes: 0,
                initial: Vec::new(),
                blank: true,
                constant: variable.space == StateSpace::Const,
                inner: variable.inner,
                patches: Vec::new(),
            });
        }
        global_of.insert(index, place);
        let global = &mut globals[place];
        global.bytes = global.bytes.max(variable.bytes);
        if let Some(initial) = &variable.initial {
            global.initial.clone_from(&initial.bytes);
            global.blank = false;
        }
    }
    for (index, variable) in variables().filter(|(_, v)| lasting(v)) {
        let Some(&place) = global_of.get(&index) else { continue };
        if variable.external && globals[place].bytes == 0 {
            let message = format!("{} is declared, but defined nowhere", variable.name);
            return Err(ParseError::new(variable.line, message));
        }
        for patch in variable.initial.iter().flat_map(|initial| &initial.patches) {
            let of = match target(names, &global_of, patch.target) {
                Ok(of) => of,
                Err(message) => return Err(ParseError::new(variable.line, message)),
            };
            let syntax::Patch { at, bytes, offset, shift, .. } = *patch;
            globals[place].patches.push(Patch { at, bytes, of, offset, shift });
        }
    }
    Ok((globals, global_of))
}

/// Whose address an initialiser takes, or what is wrong with it.
fn target(
    names: &decode::ModuleNames<'_, '_>,
    global_of: &HashMap<usize, usize>,
    target: syntax::Target<'_>,
) -> Result<Of, String> {
    let name = match target {
        syntax::Target::Inner(variable) => {
            return global_of
                .get(&variable)
                .map(|&g| Of::Global(g))
                .ok_or_else(|| "no such variable".to_owned());
        }
        syntax::Target::Name(name) => name,
    };
    if let Some(&global) = names.variables.get(name).and_then(|variable| global_of.get(variable)) {
        return Ok(Of::Global(global));
    }
    match names.functions.get(name) {
        Some(&function) if names.unit.functions[function].body.is_some() => Ok(Of::Function(function)),
        Some(_) => Err(format!("{name} is declared, but defined nowhere")),
        None => {
            Err(format!("{name} is not a global variable or function whose address could initialise another"))
        }
    }
}
