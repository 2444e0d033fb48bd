//! The parts of a module's text.

use super::types::Type;
use crate::space::StateSpace;

/// The parts of a module.
#[derive(Debug, Default)]
pub(crate) struct Unit<'a> {
    /// The number of the architecture that `.target` names: 80 for sm_80.
    pub target: Option<u32>,
    /// Variables outside functions, and the global and constant ones within them.
    pub variables: Vec<Variable<'a>>,
    /// Kernels and functions, declared or defined.
    pub functions: Vec<Function<'a>>,
    /// Other names of functions (`.alias`).
    pub aliases: Vec<Alias<'a>>,
}

/// Another name of a function.
#[derive(Debug)]
pub(crate) struct Alias<'a> {
    /// The name that the alias declares.
    pub name: &'a str,
    /// The function behind it.
    pub target: &'a str,
    /// Line in the text, from 1.
    pub line: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Variable<'a> {
    pub name: &'a str,
    pub space: StateSpace,
    /// Type of the elements.
    pub ty: Type,
    /// Number of elements of the vector type; 1 without one.
    pub lanes: u8,
    /// Total size in bytes; 0 for an array without a length.
    pub bytes: u64,
    /// Alignment of the variable in bytes.
    pub align: u64,
    /// The initial value, if it has one.
    pub initial: Option<Initial<'a>>,
    /// Whether it is `.extern`: defined elsewhere, or dynamic shared memory.
    pub external: bool,
    /// Whether it is declared within a function, where its name is visible.
    pub inner: bool,
    /// Line in the text, from 1.
    pub line: u32,
}

/// The initial value of a variable.
#[derive(Debug, Clone, Default)]
pub(crate) struct Initial<'a> {
    /// The bytes given; the rest is 0.
    pub bytes: Vec<u8>,
    /// Addresses to store into the bytes.
    pub patches: Vec<Patch<'a>>,
}

/// An address in an initialiser.
#[derive(Debug, Clone)]
pub(crate) struct Patch<'a> {
    /// Offset of the address in the bytes.
    pub at: usize,
    /// Number of bytes of the address to store.
    pub bytes: usize,
    pub target: Target<'a>,
    /// Bytes to add to the address.
    pub offset: i64,
    /// Number of low bits of the sum to drop (`0xff00(name)` takes its second byte).
    pub shift: u32,
}

/// The object whose address an initialiser takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    /// A variable or function of the module.
    Name(&'a str),
    /// A variable within the same function, by its index in the unit.
    Inner(usize),
}

/// A kernel or a function.
#[derive(Debug)]
pub(crate) struct Function<'a> {
    pub name: &'a str,
    /// Whether it is a kernel (`.entry`).
    pub entry: bool,
    /// Line in the text, from 1.
    pub line: u32,
    pub returns: Vec<Variable<'a>>,
    pub parameters: Vec<Variable<'a>>,
    /// Body; `None` for a declaration.
    pub body: Option<Vec<Statement<'a>>>,
    /// The required block shape (`.reqntid`).
    pub required_block: Option<[u32; 3]>,
    /// The most threads of a block (`.maxntid`).
    pub max_threads: Option<u64>,
    /// The required shape of a cluster (`.reqnctapercluster`), in blocks.
    pub cluster: Option<[u32; 3]>,
}

/// One statement of a body.
#[derive(Debug)]
pub(crate) enum Statement<'a> {
    /// Opens a scope: `{`.
    Open,
    /// Closes a scope: `}`.
    Close,
    /// A declaration of registers (`.reg`).
    Registers(Registers<'a>),
    /// A variable in shared, local or parameter memory.
    Variable(Variable<'a>),
    /// A global or constant variable, by its index in the unit.
    Global(usize),
    /// A label: `name:`.
    Label(Label<'a>),
    /// `name: .branchtargets a, b;` or `.calltargets`
    Targets(Label<'a>, Vec<(&'a str, Option<u64>)>),
    /// `name: .callprototype …;`
    Prototype(Prototype<'a>),
    Instruction(Instruction<'a>),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Label<'a> {
    pub name: &'a str,
    /// Line in the text, from 1.
    pub line: u32,
}

/// Registers of one type.
#[derive(Debug)]
pub(crate) struct Registers<'a> {
    /// Type of the registers.
    pub ty: Type,
    /// Number of elements of each; 1 for scalars.
    pub lanes: u8,
    /// Names, with the count of `%r<10>` where there is one.
    pub names: Vec<(&'a str, Option<u64>)>,
    /// Line in the text, from 1.
    pub line: u32,
}

/// The shape of a function that is called through a register.
#[derive(Debug)]
pub(crate) struct Prototype<'a> {
    pub name: &'a str,
    pub returns: Vec<Variable<'a>>,
    pub parameters: Vec<Variable<'a>>,
}

/// An instruction as written.
#[derive(Debug)]
pub(crate) struct Instruction<'a> {
    /// The guard predicate, and whether it is negated.
    pub guard: Option<(&'a str, bool)>,
    /// The opcode, before the first dot.
    pub name: &'a str,
    /// The suffixes, without their dots.
    pub suffixes: Vec<&'a str>,
    pub operands: Vec<Operand<'a>>,
    /// The parts of a `call`; `None` for other instructions.
    pub call: Option<Call<'a>>,
    /// Line in the text, from 1.
    pub line: u32,
    /// Byte offsets of its start and its end.
    pub span: (usize, usize),
}

/// The parts of a `call`.
#[derive(Debug, Default)]
pub(crate) struct Call<'a> {
    /// Operands for the results.
    pub returns: Vec<Operand<'a>>,
    /// The function, or the register with its address.
    pub callee: &'a str,
    pub arguments: Vec<Operand<'a>>,
    /// The prototype or list of targets of an indirect call.
    pub through: Option<&'a str>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand<'a> {
    /// A register, special register, variable, label or `_`.
    Name(&'a str),
    /// A variable and bytes to add to its address, or a register and a number to add.
    Offset(&'a str, i64),
    /// `name[index]`: an element of a variable.
    Element(&'a str, i64),
    /// An element of a vector register.
    Component(&'a str, u8),
    /// A negated predicate: `!p`.
    Not(&'a str),
    /// A negated register: `-a`.
    Minus(&'a str),
    /// A pair of predicates: `a|b`.
    Both(&'a str, &'a str),
    Integer(i64),
    /// An f32 by its bits: `0f…`.
    Single(u32),
    /// `0d…` or a decimal float.
    Double(u64),
    /// A vector: `{a, b}`.
    Vector(Vec<Operand<'a>>),
    /// An address: `[base+offset]`.
    Address(Base<'a>, i64),
}

/// The base of an address.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Base<'a> {
    /// A register or variable.
    Name(&'a str),
    /// No base: the offset is the address.
    Absolute,
}
