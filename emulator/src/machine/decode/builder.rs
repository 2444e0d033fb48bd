//! State that all functions of a kernel share: constants, static shared memory, and the list of functions to decode.

use crate::machine::program::{Loc, Program, Relocation, Routine};
use std::collections::HashMap;

use super::names::ModuleNames;
use crate::machine::lanes::{V32, V64};
use crate::memory::LANES;
use crate::syntax::{ParseError, Parsed};

#[derive(Debug)]
pub(crate) struct DecodedKernel {
    /// The kernel and the functions that it can call.
    pub program: Program,
    /// Static shared memory in bytes.
    pub static_shared: u32,
    /// Its results may depend on the order of its blocks, so they run in order.
    pub ordered: bool,
}

/// A kernel under construction.
pub(super) struct Builder<'m, 'a> {
    pub names: &'m ModuleNames<'m, 'a>,
    /// The functions that the kernel can call, in the order of their routines.
    reached: Vec<usize>,
    /// Index of each such function's routine.
    routine_of: HashMap<usize, usize>,
    constants32: Vec<V32>,
    constants64: Vec<V64>,
    known32: HashMap<u32, Loc>,
    known64: HashMap<u64, Loc>,
    relocations: Vec<Relocation>,
    /// 32-bit constants to which the start of dynamic shared memory is added.
    dynamic32: Vec<usize>,
    /// 64-bit constants to which the start of dynamic shared memory is added.
    dynamic64: Vec<usize>,
    dynamic_align: u64,
    /// Static shared memory so far in bytes.
    shared: u64,
    /// Offsets of the module's shared variables that were used so far.
    shared_offsets: HashMap<usize, u64>,
    /// See [`DecodedKernel::ordered`].
    pub ordered: bool,
    /// See [`Program::heap`].
    pub heap: bool,
}

/// The most static shared memory that is laid out, in bytes. Launches check the device's own limit.
const SHARED_BYTES: u64 = 1 << 20;

impl<'m, 'a> Builder<'m, 'a> {
    /// A kernel without code.
    pub fn new(names: &'m ModuleNames<'m, 'a>) -> Self {
        let mut builder = Self {
            names,
            reached: Vec::new(),
            routine_of: HashMap::new(),
            constants32: Vec::new(),
            constants64: Vec::new(),
            known32: HashMap::new(),
            known64: HashMap::new(),
            relocations: Vec::new(),
            dynamic32: Vec::new(),
            dynamic64: Vec::new(),
            dynamic_align: 16,
            shared: 0,
            shared_offsets: HashMap::new(),
            ordered: false,
            heap: false,
        };
        builder.constant32(0);
        builder.constant64(0);
        builder
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
        if wide {
            self.constants64.push([offset as u64; LANES]);
            self.dynamic64.push(self.constants64.len() - 1);
            Loc::constant(self.constants64.len() - 1)
        } else {
            self.constants32.push([offset as u32; LANES]);
            self.dynamic32.push(self.constants32.len() - 1);
            Loc::constant(self.constants32.len() - 1)
        }
    }

    /// Allocates static shared memory; returns its offset.
    pub fn allocate_shared(&mut self, bytes: u64, align: u64, line: u32) -> Parsed<u64> {
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
        let offset = self.allocate_shared(v.bytes, v.align, v.line)?;
        self.shared_offsets.insert(variable, offset);
        Ok(offset)
    }

    /// The index of a function's routine. A function that is new is decoded later.
    pub fn routine(&mut self, function: usize) -> usize {
        let reached = &mut self.reached;
        *self.routine_of.entry(function).or_insert_with(|| {
            reached.push(function);
            reached.len() - 1
        })
    }

    /// Adds every function whose address is taken: a call through a register may reach it.
    pub fn add_address_taken(&mut self) {
        let names = self.names;
        for &function in &names.address_taken {
            self.routine(function);
        }
    }

    /// The function of the routine with this index; `None` beyond the last.
    pub fn wanted(&self, routine: usize) -> Option<usize> {
        self.reached.get(routine).copied()
    }

    /// The kernel, once all its routines are decoded: dynamic shared memory follows the static one.
    pub fn finish(mut self, routines: Vec<Routine>) -> DecodedKernel {
        let base = self.shared.next_multiple_of(self.dynamic_align);
        for &constant in &self.dynamic32 {
            self.constants32[constant].iter_mut().for_each(|c| *c = c.wrapping_add(base as u32));
        }
        for &constant in &self.dynamic64 {
            self.constants64[constant].iter_mut().for_each(|c| *c = c.wrapping_add(base));
        }
        let has_dynamic = !self.dynamic32.is_empty() || !self.dynamic64.is_empty();
        let static_shared = if has_dynamic { base } else { self.shared };
        let functions = 0..self.names.unit.functions.len();
        let program = Program {
            routines,
            constants32: self.constants32,
            constants64: self.constants64,
            relocations: self.relocations,
            routine_of: functions.map(|f| self.routine_of.get(&f).copied()).collect(),
            heap: self.heap,
            locals: self.names.local_bytes,
            constant_ranges: Vec::new(),
        };
        DecodedKernel { program, static_shared: static_shared as u32, ordered: self.ordered }
    }
}
