//! Modules: text that was understood, and what it looks like in a device's memory.

use std::collections::HashMap;
use std::sync::Arc;

use super::decode;
use super::program::Program;
use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::syntax::{self, Complaint, Space, Unit};

/// A parameter of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u32,
    /// Its alignment in bytes.
    pub align: u32,
}

/// What a kernel wants from those who launch it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelInfo {
    /// Its name.
    pub name: String,
    /// Its parameters, in order.
    pub parameters: Vec<Parameter>,
    /// Bytes of shared memory that it declares itself.
    pub static_shared: u32,
    /// The block shape that it demands (`.reqntid`).
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
}

/// A variable in global memory.
#[derive(Debug)]
struct Global {
    name: String,
    bytes: u64,
    initial: Vec<u8>,
    /// Nothing wrote it before the kernel does.
    blank: bool,
    /// Where in its bytes which variable's address stands, of how many bytes.
    patches: Vec<(usize, usize, usize, i64)>,
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
        let inner = parse(name, text).map_err(|Complaint { line, message }| Error::Parse {
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
            match memory.alloc(global.bytes.max(1)) {
                Ok(address) => addresses.push(address),
                Err(error) => {
                    release(memory, &addresses);
                    return Err(Error::Usage(format!("{}: variable {}: {error}", inner.name, global.name)));
                }
            }
        }
        for (global, &address) in inner.globals.iter().zip(&addresses) {
            let mut initial = global.initial.clone();
            for &(at, bytes, target, offset) in &global.patches {
                let value = addresses.get(target).copied().unwrap_or(0).wrapping_add(offset as u64);
                if let Some(place) = initial.get_mut(at..at + bytes) {
                    place.copy_from_slice(&value.to_le_bytes()[..bytes]);
                }
            }
            // CUDA's variables without an initialiser are zero.
            if global.blank || initial.len() as u64 != global.bytes {
                memory.fill(address, 0, global.bytes)?;
            }
            if !initial.is_empty() {
                memory.write(address, &initial)?;
            }
        }
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
            programs.push(program);
        }
        let names = inner.globals.iter().map(|g| g.name.clone());
        let variables = names.zip(inner.globals.iter().zip(&addresses).map(|(g, &a)| (a, g.bytes))).collect();
        Ok(LoadedModule { inner: Arc::clone(inner), programs, variables })
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
    variables: HashMap<String, (u64, u64)>,
}

impl LoadedModule {
    /// Its kernels, in the text's order.
    pub fn kernels(&self) -> impl Iterator<Item = &KernelInfo> {
        self.inner.kernels.iter().map(|kernel| &kernel.info)
    }

    /// Address and bytes of a global or constant variable.
    pub fn variable(&self, name: &str) -> Option<(u64, u64)> {
        self.variables.get(name).copied()
    }

    /// Frees its variables.
    ///
    /// # Errors
    /// [`Error::Usage`] if `memory` is not the one that it was loaded into.
    pub fn unload(self, memory: &Memory) -> Result<()> {
        for (address, _) in self.variables.into_values() {
            memory.free(address)?;
        }
        Ok(())
    }
}

fn parse(name: &str, text: &str) -> syntax::Parsed<Inner> {
    let unit = syntax::parse(text)?;
    let kernels = decode::kernels(&unit)?;
    let (globals, global_of) = globals(&unit)?;
    let mut out = Vec::new();
    for (index, decode::Kernel { program, static_shared, ordered }) in kernels {
        let function = &unit.functions[index];
        let mut parameters = Vec::new();
        let mut total = 0u64;
        for parameter in &function.parameters {
            total = total.next_multiple_of(parameter.align.max(1)).saturating_add(parameter.bytes);
            // The limit of sm_70 and later since PTX 8.1.
            if total > 32764 {
                let message =
                    format!("{} has {total} bytes of parameters; at most 32764 are possible", function.name);
                return Err(Complaint::new(parameter.line, message));
            }
            parameters.push(Parameter {
                name: parameter.name.to_owned(),
                bytes: parameter.bytes as u32,
                align: parameter.align as u32,
            });
        }
        let info = KernelInfo {
            name: function.name.to_owned(),
            parameters,
            static_shared,
            required_block: function.required_block,
            max_threads: function.max_threads.map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
        };
        out.push(Kernel { info, program, ordered });
    }
    Ok(Inner { name: name.to_owned(), text: text.to_owned(), kernels: out, globals, global_of })
}

/// The module's global variables; a declaration and its definition are one.
fn globals(unit: &Unit<'_>) -> syntax::Parsed<(Vec<Global>, HashMap<usize, usize>)> {
    let mut globals: Vec<Global> = Vec::new();
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    let mut global_of = HashMap::new();
    for (index, variable) in unit.variables.iter().enumerate() {
        if !matches!(variable.space, Space::Global | Space::Const) {
            continue;
        }
        let place = *by_name.entry(variable.name).or_insert_with(|| {
            globals.push(Global {
                name: variable.name.to_owned(),
                bytes: 0,
                initial: Vec::new(),
                blank: true,
                patches: Vec::new(),
            });
            globals.len() - 1
        });
        global_of.insert(index, place);
        let global = &mut globals[place];
        global.bytes = global.bytes.max(variable.bytes);
        if let Some(initial) = &variable.initial {
            global.initial.clone_from(&initial.bytes);
            global.blank = false;
        }
    }
    for variable in &unit.variables {
        let Some(initial) = &variable.initial else { continue };
        let Some(&place) = by_name.get(variable.name) else { continue };
        for patch in &initial.patches {
            let Some(&target) = by_name.get(patch.name) else {
                return Err(Complaint::new(variable.line, format!("{} is not declared", patch.name)));
            };
            globals[place].patches.push((patch.at, patch.bytes, target, patch.offset));
        }
    }
    Ok((globals, global_of))
}
