//! What a module's text says, part by part.

use super::types::Type;
use crate::space::StateSpace;

/// A module.
#[derive(Debug, Default)]
pub(crate) struct Unit<'a> {
    /// The number of the architecture that `.target` names: 80 for sm_80.
    pub target: Option<u32>,
    /// Variables outside functions, and the global and constant ones within them.
    pub variables: Vec<Variable<'a>>,
    /// Kernels and functions, declared or defined.
    pub functions: Vec<Function<'a>>,
    /// `.alias`
    pub aliases: Vec<Alias<'a>>,
}

/// Another name of a function.
#[derive(Debug)]
pub(crate) struct Alias<'a> {
    /// The declared name.
    pub name: &'a str,
    /// The function that it stands for.
    pub target: &'a str,
    /// Line, from 1.
    pub line: u32,
}

/// A variable.
#[derive(Debug, Clone)]
pub(crate) struct Variable<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where it lives.
    pub space: StateSpace,
    /// Its element type.
    pub ty: Type,
    /// Elements of its vector type; 1 without one.
    pub lanes: u8,
    /// All of its bytes; 0 for an array without a length.
    pub bytes: u64,
    /// Its alignment in bytes.
    pub align: u64,
    /// First bytes, if it is initialised.
    pub initial: Option<Initial<'a>>,
    /// Declared `.extern`: defined elsewhere, or dynamic shared memory.
    pub external: bool,
    /// Declared within a function: its name holds there alone.
    pub inner: bool,
    /// Line, from 1.
    pub line: u32,
}

/// What a variable starts with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Initial<'a> {
    /// The bytes given; the rest is 0.
    pub bytes: Vec<u8>,
    /// Addresses to put into them.
    pub patches: Vec<Patch<'a>>,
}

/// An address in an initialiser.
#[derive(Debug, Clone)]
pub(crate) struct Patch<'a> {
    /// Where in the bytes.
    pub at: usize,
    /// How many bytes.
    pub bytes: usize,
    /// Whose address.
    pub target: Target<'a>,
    /// Plus so much.
    pub offset: i64,
    /// How many of the sum's low bits are left out (`0xff00(name)` takes its second byte).
    pub shift: u32,
}

/// Whose address an initialiser takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    /// A variable or function of the module.
    Name(&'a str),
    /// A variable within the same function, by its place in the unit's.
    Inner(usize),
}

/// A kernel or a function.
#[derive(Debug)]
pub(crate) struct Function<'a> {
    /// Its name.
    pub name: &'a str,
    /// A kernel (`.entry`).
    pub entry: bool,
    /// Line, from 1.
    pub line: u32,
    /// What it returns.
    pub returns: Vec<Variable<'a>>,
    /// Its parameters.
    pub parameters: Vec<Variable<'a>>,
    /// Its body; `None` for a declaration.
    pub body: Option<Vec<Statement<'a>>>,
    /// Exact block shape that it demands (`.reqntid`).
    pub required_block: Option<[u32; 3]>,
    /// Largest number of threads a block that it allows (`.maxntid`).
    pub max_threads: Option<u64>,
    /// Blocks of a cluster that it demands (`.reqnctapercluster`).
    pub cluster: Option<[u32; 3]>,
}

/// One statement of a body.
#[derive(Debug)]
pub(crate) enum Statement<'a> {
    /// `{`
    Open,
    /// `}`
    Close,
    /// `.reg`
    Registers(Registers<'a>),
    /// A variable in shared, local or parameter memory.
    Variable(Variable<'a>),
    /// A global or constant variable: its place in the unit's variables.
    Global(usize),
    /// `name:`
    Label(Label<'a>),
    /// `name: .branchtargets a, b;` or `.calltargets`
    Targets(Label<'a>, Vec<(&'a str, Option<u64>)>),
    /// `name: .callprototype …;`
    Prototype(Prototype<'a>),
    /// An instruction.
    Instruction(Instruction<'a>),
}

/// A label.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Label<'a> {
    /// Its name.
    pub name: &'a str,
    /// Line, from 1.
    pub line: u32,
}

/// Registers of one type.
#[derive(Debug)]
pub(crate) struct Registers<'a> {
    /// Their type.
    pub ty: Type,
    /// Elements of each; 1 for scalars.
    pub lanes: u8,
    /// Names, with the count of `%r<10>` where there is one.
    pub names: Vec<(&'a str, Option<u64>)>,
    /// Line, from 1.
    pub line: u32,
}

/// The shape of a function that is called through a register.
#[derive(Debug)]
pub(crate) struct Prototype<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it returns.
    pub returns: Vec<Variable<'a>>,
    /// Its parameters.
    pub parameters: Vec<Variable<'a>>,
}

/// An instruction as it stands.
#[derive(Debug)]
pub(crate) struct Instruction<'a> {
    /// The guard predicate, and whether it is negated.
    pub guard: Option<(&'a str, bool)>,
    /// What stands before the first dot.
    pub name: &'a str,
    /// The suffixes, without their dots.
    pub suffixes: Vec<&'a str>,
    /// The operands.
    pub operands: Vec<Operand<'a>>,
    /// The parts of a `call`.
    pub call: Option<Call<'a>>,
    /// Line, from 1.
    pub line: u32,
    /// Where it stands in the text.
    pub span: (usize, usize),
}

/// The parts of a `call`.
#[derive(Debug, Default)]
pub(crate) struct Call<'a> {
    /// Where the results go.
    pub returns: Vec<Operand<'a>>,
    /// The function, or the register with its address.
    pub callee: &'a str,
    /// The arguments.
    pub arguments: Vec<Operand<'a>>,
    /// The prototype or list of targets of an indirect call.
    pub through: Option<&'a str>,
}

/// An operand.
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
    /// `!p`
    Not(&'a str),
    /// `-a`, of a register
    Minus(&'a str),
    /// `a|b`
    Both(&'a str, &'a str),
    /// An integer.
    Integer(i64),
    /// `0f…`
    Single(u32),
    /// `0d…` or a decimal float.
    Double(u64),
    /// `{a, b}`
    Vector(Vec<Operand<'a>>),
    /// `[base+offset]`
    Address(Base<'a>, i64),
}

/// What an address starts from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Base<'a> {
    /// A register or variable.
    Name(&'a str),
    /// Nothing: the offset is the address.
    Absolute,
}
