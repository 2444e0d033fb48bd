//! Instructions as they stand → instructions with resolved operands.
//!
//! Every kernel is decoded with the functions that it reaches, so shared memory is laid out for what it uses.

mod body;
mod cache;
mod call;
mod compare;
mod control;
mod convert;
mod float;
mod integer;
mod logic;
mod memory;
mod mma;
mod moves;
mod operands;
mod scope;
mod special;
mod stack;
mod suffix;
mod tile;
mod video;
mod warp;
mod wmma;

use std::collections::HashMap;

use super::lanes::{V32, V64};
use super::program::{Loc, Program, Relocation, Routine};
use crate::memory::LANES;
use crate::syntax::{Instruction, Operand, ParseError, Parsed, Space, Statement, Target, Unit};
use body::Body;

/// A kernel, decoded.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Its code, and that of the functions it calls; the first routine is the kernel's.
    pub program: Program,
    /// Bytes of static shared memory.
    pub static_shared: u32,
    /// It may depend on the order of its blocks, so they run in order.
    pub ordered: bool,
}

/// Names of a module.
pub(super) struct Names<'m, 'a> {
    /// The module's parts.
    pub unit: &'m Unit<'a>,
    /// Functions by name; definitions win over declarations.
    pub functions: HashMap<&'a str, usize>,
    /// Variables outside functions by name.
    pub variables: HashMap<&'a str, usize>,
    /// Where in a thread's own memory its variables outside functions lie, and how many bytes they have.
    pub locals: HashMap<usize, u64>,
    pub local_bytes: u64,
    /// Bytes of the longest variable that a call could be given.
    pub longest_argument: u64,
    /// Functions whose address is taken somewhere in the module.
    taken: Vec<usize>,
}

impl<'m, 'a> Names<'m, 'a> {
    /// Collects the names and refuses those that are defined twice.
    pub fn new(unit: &'m Unit<'a>) -> Parsed<Self> {
        let mut functions: HashMap<&str, usize> = HashMap::new();
        for (index, function) in unit.functions.iter().enumerate() {
            match functions.get(function.name).map(|&i| &unit.functions[i]) {
                Some(other) if other.body.is_some() && function.body.is_some() => {
                    return Err(ParseError::new(
                        function.line,
                        format!("{} is defined twice", function.name),
                    ));
                }
                Some(other) if other.body.is_some() => {}
                _ => {
                    functions.insert(function.name, index);
                }
            }
        }
        for alias in &unit.aliases {
            let defined = |name: &str| functions.get(name).map(|&f| (f, unit.functions[f].body.is_some()));
            match (defined(alias.name), defined(alias.target)) {
                (Some((_, false)), Some((target, true))) => functions.insert(alias.name, target),
                (Some((_, false)), _) => {
                    let message = format!("{} is defined nowhere", alias.target);
                    return Err(ParseError::new(alias.line, message));
                }
                _ => {
                    let message = format!("{} must be a function that is declared only", alias.name);
                    return Err(ParseError::new(alias.line, message));
                }
            };
        }
        let mut variables: HashMap<&str, usize> = HashMap::new();
        let (mut locals, mut local_bytes) = (HashMap::new(), 0u64);
        for (index, variable) in unit.variables.iter().enumerate() {
            if variable.inner {
                continue;
            }
            if variable.space == Space::Local {
                let offset = local_bytes.next_multiple_of(variable.align.max(1));
                locals.insert(index, offset);
                local_bytes = offset.saturating_add(variable.bytes);
                if local_bytes > FRAME_BYTES {
                    let message =
                        format!("{local_bytes} bytes of local variables; at most {FRAME_BYTES} are possible");
                    return Err(ParseError::new(variable.line, message));
                }
            }
            let before = variables.insert(variable.name, index).map(|i| &unit.variables[i]);
            if before.is_some_and(|b| !b.external && !variable.external) {
                return Err(ParseError::new(variable.line, format!("{} is defined twice", variable.name)));
            }
        }
        let taken = taken(unit, &functions);
        let bodies = unit.functions.iter().flat_map(|f| &f.body).flatten();
        let arguments = bodies.filter_map(|s| match s {
            Statement::Variable(v) if v.space == Space::Param => Some(v.bytes),
            _ => None,
        });
        let longest_argument = arguments.max().unwrap_or(0);
        let local_bytes = local_bytes.next_multiple_of(16);
        Ok(Self { unit, functions, variables, locals, local_bytes, longest_argument, taken })
    }
}

/// The functions with a body whose names stand where addresses do: in operands and initial values.
fn taken(unit: &Unit<'_>, functions: &HashMap<&str, usize>) -> Vec<usize> {
    fn names<'a>(operands: &[Operand<'a>], found: &mut impl FnMut(&'a str)) {
        for operand in operands {
            match operand {
                Operand::Name(name) | Operand::Offset(name, _) => found(name),
                Operand::Vector(elements) => names(elements, found),
                _ => {}
            }
        }
    }
    let mut out = Vec::new();
    let mut found = |name: &str| {
        if let Some(&function) = functions.get(name)
            && !unit.functions[function].entry
            && unit.functions[function].body.is_some()
        {
            out.push(function);
        }
    };
    for statement in unit.functions.iter().flat_map(|f| &f.body).flatten() {
        if let Statement::Instruction(Instruction { operands, call, .. }) = statement {
            names(operands, &mut found);
            names(call.as_ref().map_or(&[], |call| &call.arguments), &mut found);
        }
    }
    for patch in unit.variables.iter().flat_map(|v| &v.initial).flat_map(|i| &i.patches) {
        if let Target::Name(name) = patch.target {
            found(name);
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}

/// What is built for one kernel.
pub(super) struct Build<'m, 'a> {
    /// The module's names.
    pub names: &'m Names<'m, 'a>,
    /// Functions whose code is wanted, by their place in the program.
    wanted: Vec<usize>,
    /// Places in the program by function.
    places: HashMap<usize, usize>,
    constants32: Vec<V32>,
    constants64: Vec<V64>,
    known32: HashMap<u32, Loc>,
    known64: HashMap<u64, Loc>,
    relocations: Vec<Relocation>,
    /// Constants that get the start of dynamic shared memory added: 32- and 64-bit ones.
    dynamic: [Vec<usize>; 2],
    dynamic_align: u64,
    /// Bytes of static shared memory so far.
    shared: u64,
    /// Offsets of the module's shared variables that were used so far.
    shared_offsets: HashMap<usize, u64>,
    /// See [`Kernel::ordered`].
    pub ordered: bool,
    /// See [`Program::heap`].
    pub heap: bool,
}

/// Most bytes of a function's local variables: what CUDA allows a thread.
const FRAME_BYTES: u64 = 512 << 10;
/// Most bytes that a kernel's static shared memory may have at all; launches set the limit that holds.
const SHARED_BYTES: u64 = 1 << 20;

impl<'m, 'a> Build<'m, 'a> {
    fn new(names: &'m Names<'m, 'a>) -> Self {
        let mut build = Self {
            names,
            wanted: Vec::new(),
            places: HashMap::new(),
            constants32: Vec::new(),
            constants64: Vec::new(),
            known32: HashMap::new(),
            known64: HashMap::new(),
            relocations: Vec::new(),
            dynamic: [Vec::new(), Vec::new()],
            dynamic_align: 16,
            shared: 0,
            shared_offsets: HashMap::new(),
            ordered: false,
            heap: false,
        };
        build.constant32(0);
        build.constant64(0);
        build
    }

    /// The column of a 32-bit constant.
    pub fn constant32(&mut self, bits: u32) -> Loc {
        let pool = &mut self.constants32;
        *self.known32.entry(bits).or_insert_with(|| {
            pool.push([bits; LANES]);
            Loc::constant(pool.len() - 1)
        })
    }

    /// The column of a 64-bit constant.
    pub fn constant64(&mut self, bits: u64) -> Loc {
        let pool = &mut self.constants64;
        *self.known64.entry(bits).or_insert_with(|| {
            pool.push([bits; LANES]);
            Loc::constant(pool.len() - 1)
        })
    }

    /// The column of a global variable's address.
    pub fn global_address(&mut self, variable: usize, offset: i64) -> Loc {
        self.constants64.push([0; LANES]);
        let constant = self.constants64.len() - 1;
        self.relocations.push(Relocation { constant, variable, offset });
        Loc::constant(constant)
    }

    /// The column of an address in dynamic shared memory.
    pub fn dynamic_address(&mut self, offset: i64, align: u64, wide: bool) -> Loc {
        self.dynamic_align = self.dynamic_align.max(align);
        let constant = if wide {
            self.constants64.push([offset as u64; LANES]);
            self.constants64.len() - 1
        } else {
            self.constants32.push([offset as u32; LANES]);
            self.constants32.len() - 1
        };
        self.dynamic[usize::from(wide)].push(constant);
        Loc::constant(constant)
    }

    /// Room in static shared memory.
    pub fn shared_room(&mut self, bytes: u64, align: u64, line: u32) -> Parsed<u64> {
        let offset = self.shared.next_multiple_of(align.max(1));
        self.shared = offset.saturating_add(bytes);
        if self.shared > SHARED_BYTES {
            return Err(ParseError::new(
                line,
                format!("{} bytes of static shared memory are too many", self.shared),
            ));
        }
        Ok(offset)
    }

    /// The offset of one of the module's shared variables.
    pub fn shared_offset(&mut self, variable: usize) -> Parsed<u64> {
        if let Some(&offset) = self.shared_offsets.get(&variable) {
            return Ok(offset);
        }
        let names = self.names;
        let v = &names.unit.variables[variable];
        let offset = self.shared_room(v.bytes, v.align, v.line)?;
        self.shared_offsets.insert(variable, offset);
        Ok(offset)
    }

    /// The place in the program of a function's code, which is decoded later if it was not yet.
    pub fn place(&mut self, function: usize) -> usize {
        let wanted = &mut self.wanted;
        *self.places.entry(function).or_insert_with(|| {
            wanted.push(function);
            wanted.len() - 1
        })
    }

    /// Everything whose address is taken: a call through a register may go there.
    pub fn place_taken(&mut self) {
        let names = self.names;
        for &function in &names.taken {
            self.place(function);
        }
    }

    /// Decodes the kernel (or function) `root` and all it reaches.
    fn run(mut self, root: usize) -> Parsed<Kernel> {
        self.place(root);
        let mut routines: Vec<Routine> = Vec::new();
        while let Some(&function) = self.wanted.get(routines.len()) {
            let names = self.names;
            routines.push(Body::decode(&mut self, &names.unit.functions[function])?);
        }
        let base = self.shared.next_multiple_of(self.dynamic_align);
        for &constant in &self.dynamic[0] {
            self.constants32[constant].iter_mut().for_each(|c| *c = c.wrapping_add(base as u32));
        }
        for &constant in &self.dynamic[1] {
            self.constants64[constant].iter_mut().for_each(|c| *c = c.wrapping_add(base));
        }
        let static_shared = if self.dynamic.iter().all(Vec::is_empty) { self.shared } else { base };
        let program = Program {
            routines,
            constants32: self.constants32,
            constants64: self.constants64,
            relocations: self.relocations,
            places: (0..self.names.unit.functions.len()).map(|f| self.places.get(&f).copied()).collect(),
            heap: self.heap,
            locals: self.names.local_bytes,
            constant_ranges: Vec::new(),
        };
        Ok(Kernel { program, static_shared: static_shared as u32, ordered: self.ordered })
    }
}

/// Decodes every kernel of a module, in the text's order. Functions that no kernel reaches are looked at for errors.
pub(super) fn kernels(names: &Names<'_, '_>) -> Parsed<Vec<(usize, Kernel)>> {
    let unit = names.unit;
    let mut seen = vec![false; unit.functions.len()];
    let mut out = Vec::new();
    for (index, function) in unit.functions.iter().enumerate() {
        if function.entry && function.body.is_some() {
            let build = Build::new(names);
            let kernel = build.run_marking(index, &mut seen)?;
            out.push((index, kernel));
        }
    }
    for (index, function) in unit.functions.iter().enumerate() {
        if !seen[index] && function.body.is_some() {
            Build::new(names).run_marking(index, &mut seen)?;
        }
    }
    Ok(out)
}

impl Build<'_, '_> {
    /// [`Build::run`], and which functions were decoded.
    fn run_marking(self, root: usize, seen: &mut [bool]) -> Parsed<Kernel> {
        let kernel = self.run(root)?;
        for (seen, place) in seen.iter_mut().zip(&kernel.program.places) {
            *seen |= place.is_some();
        }
        Ok(kernel)
    }
}
