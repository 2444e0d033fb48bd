//! A function's body: declarations, operands, and the conversion of its instructions.

use crate::machine::program::{Formal, Inst, Loc, Op, Pred, RegisterFile, Routine, SourceSpan, Value};
use crate::space::StateSpace;
use std::collections::HashMap;

use super::builder::Builder;
use super::names::LOCAL_BYTES;
use super::reconverge;
use super::scope::{Extent, Register, Scopes, Symbol, labels};
use super::suffix::Suffixes;
use crate::machine::lanes::{LaneFn32, LaneFn64};
use crate::syntax::{
    Function, Instruction, Kind, Operand, ParseError, Parsed, Prototype, Registers, Statement, Type, Variable,
};

/// Most instructions of a decoded function.
const CODE: usize = 1 << 26;

/// A function during decoding.
pub(super) struct Body<'b, 'm, 'a> {
    pub(super) builder: &'b mut Builder<'m, 'a>,
    pub(super) scopes: Scopes<'a>,
    pub(super) routine: Routine,
    pub(super) function: &'m Function<'a>,
    pub(super) tables: HashMap<&'a str, usize>,
    pub(super) prototypes: HashMap<&'a str, &'m Prototype<'a>>,
    pub(super) labels: HashMap<(usize, &'a str), usize>,
    /// `.calltargets` lists by label.
    pub(super) lists: HashMap<&'a str, &'m [(&'a str, Option<u64>)]>,
    /// The top of the stack at the start of a function that calls `alloca`.
    pub(super) top: Option<Value>,
    /// Index of the instruction that each label marks.
    targets: Vec<Option<u32>>,
    guard: Pred,
    span: SourceSpan,
    /// Number of parts that the current instruction was decoded into so far.
    parts: u32,
}

/// A lane function of either width.
pub(super) enum LaneFn {
    Bits32(LaneFn32),
    Bits64(LaneFn64),
}

impl<'b, 'm, 'a> Body<'b, 'm, 'a> {
    pub fn decode(builder: &'b mut Builder<'m, 'a>, function: &'m Function<'a>) -> Parsed<Routine> {
        let routine = Routine { line: function.line, ..Routine::default() };
        let mut body = Self {
            builder,
            scopes: Scopes::new(),
            routine,
            function,
            tables: HashMap::new(),
            prototypes: HashMap::new(),
            labels: HashMap::new(),
            lists: HashMap::new(),
            top: None,
            targets: Vec::new(),
            guard: Pred::NONE,
            span: SourceSpan { line: function.line, start: 0, end: 0 },
            parts: 0,
        };
        body.formals()?;
        if let Some(statements) = &function.body {
            body.labels = labels(statements);
            body.targets = vec![None; body.labels.len()];
            body.find_tables(statements)?;
            body.keep_top(statements)?;
            for statement in statements {
                body.statement(statement)?;
            }
        }
        body.guard = Pred::NONE;
        body.leave();
        let targets = std::mem::take(&mut body.targets);
        let mut routine = body.routine;
        reconverge::resolve(&mut routine, &targets)?;
        Ok(routine)
    }

    /// An error at the line of the current instruction.
    pub fn fail<T>(&self, message: impl Into<String>) -> Parsed<T> {
        Err(ParseError::new(self.span.line, message))
    }

    fn formals(&mut self) -> Parsed<()> {
        let function = self.function;
        if function.entry {
            let mut offset = 0u64;
            for parameter in &function.parameters {
                offset = offset.next_multiple_of(parameter.align.max(1));
                self.declare_variable(parameter, Symbol::Param(offset))?;
                offset += parameter.bytes;
            }
            return Ok(());
        }
        for (list, variables) in [&function.returns, &function.parameters].into_iter().enumerate() {
            for variable in variables {
                let formals = self.formal(variable)?;
                if list == 0 {
                    self.routine.returns.extend(formals);
                } else {
                    self.routine.parameters.extend(formals);
                }
            }
        }
        Ok(())
    }

    /// The places of a parameter or result; a vector has one register per element.
    fn formal(&mut self, variable: &'m Variable<'a>) -> Parsed<Vec<Formal>> {
        if variable.space == StateSpace::Register {
            let symbol = self.new_registers((variable.ty, variable.lanes), variable.name, variable.line)?;
            self.declare(variable.name, symbol, variable.line)?;
            let (first, lanes) = match symbol {
                Symbol::Vector(first, lanes) => (first, lanes),
                Symbol::Register(register) => (register, 1),
                _ => return Ok(Vec::new()),
            };
            let formal = |index: usize| match first.file {
                RegisterFile::Predicate => Formal::Predicate(Pred { index: index as u32, negated: false }),
                file => Formal::Register(Value::new(Loc::register(index), file == RegisterFile::Bits64)),
            };
            return Ok((0..usize::from(lanes)).map(|lane| formal(first.index + lane)).collect());
        }
        // A parameter without a length is as long as the caller's variable.
        let bytes = if variable.bytes == 0 { self.builder.names.longest_argument } else { variable.bytes };
        let offset = self.allocate_frame(bytes, variable.align, variable.line)?;
        self.declare_variable(variable, Symbol::Frame(offset))?;
        Ok(vec![Formal::Frame { offset, bytes }])
    }

    fn declare(&mut self, name: &'a str, symbol: Symbol, line: u32) -> Parsed<()> {
        if name == "_" || self.scopes.declare(name, symbol) {
            return Ok(());
        }
        Err(ParseError::new(line, format!("{name} is declared twice")))
    }

    fn declare_variable(&mut self, variable: &Variable<'a>, symbol: Symbol) -> Parsed<()> {
        let Variable { name, ty, bytes, line, .. } = *variable;
        let extent = Extent { element: ty.bytes(), bytes };
        if name == "_" || self.scopes.declare_variable(name, symbol, extent) {
            return Ok(());
        }
        Err(ParseError::new(line, format!("{name} is declared twice")))
    }

    pub(super) fn allocate_frame(&mut self, bytes: u64, align: u64, line: u32) -> Parsed<u64> {
        let offset = self.routine.frame.next_multiple_of(align.max(1));
        self.routine.frame = offset.saturating_add(bytes);
        if self.routine.frame > LOCAL_BYTES {
            let message = format!(
                "{} bytes of local variables; at most {LOCAL_BYTES} are possible",
                self.routine.frame
            );
            return Err(ParseError::new(line, message));
        }
        Ok(offset)
    }

    fn new_registers(&mut self, ty: (Type, u8), name: &str, line: u32) -> Parsed<Symbol> {
        match new_registers(&mut self.routine, ty, name) {
            Some(symbol) => Ok(symbol),
            None => Err(ParseError::new(line, format!("{name} has a type that no register has"))),
        }
    }

    /// A register without a name.
    pub fn temporary(&mut self, ty: Type) -> Parsed<Register> {
        match new_register(&mut self.routine, ty, "a temporary value".to_owned()) {
            Some(register) => Ok(register),
            None => self.fail("a value of a type that no register has"),
        }
    }

    fn statement(&mut self, statement: &'m Statement<'a>) -> Parsed<()> {
        match statement {
            Statement::Open => self.scopes.open(),
            Statement::Close => self.scopes.close(),
            Statement::Registers(registers) => self.registers(registers)?,
            Statement::Variable(variable) => self.variable(variable)?,
            Statement::Global(index) => {
                let unit = self.builder.names.unit;
                self.declare_variable(&unit.variables[*index], Symbol::Global(*index))?;
            }
            Statement::Label(label) => {
                let here = self.routine.code.len() as u32;
                let scope = self.scopes.numbers().next().unwrap_or(0);
                if let Some(&index) = self.labels.get(&(scope, label.name))
                    && self.targets[index].replace(here).is_some()
                {
                    return Err(ParseError::new(
                        label.line,
                        format!("label {} is defined twice", label.name),
                    ));
                }
            }
            Statement::Targets(..) => {}
            Statement::Prototype(prototype) => {
                self.prototypes.insert(prototype.name, prototype);
            }
            Statement::Instruction(instruction) => self.instruction(instruction)?,
        }
        Ok(())
    }

    /// Collects jump tables first, because a table may follow the jump. Its labels belong to the table's scope.
    fn find_tables(&mut self, statements: &'m [Statement<'a>]) -> Parsed<()> {
        let mut scopes = Scopes::new();
        for statement in statements {
            match statement {
                Statement::Open => scopes.open(),
                Statement::Close => scopes.close(),
                Statement::Targets(label, names) => {
                    if let Some(targets) = self.targets(&scopes, names) {
                        self.tables.insert(label.name, self.routine.tables.len());
                        self.routine.tables.push(targets);
                    } else {
                        // A list of call targets names functions.
                        self.lists.insert(label.name, names);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The labels in a list, where `name<3>` means name0, name1 and name2; `None` if one is not a label.
    fn targets(&self, scopes: &Scopes<'a>, names: &[(&'a str, Option<u64>)]) -> Option<Vec<u32>> {
        let find = |name: &str| {
            scopes.numbers().find_map(|scope| self.labels.get(&(scope, name))).map(|&index| index as u32)
        };
        let mut out = Vec::new();
        for &(name, count) in names {
            match count {
                None => out.push(find(name)?),
                // Each label must exist, so a huge count ends soon.
                Some(count) => {
                    for number in 0..count {
                        out.push(find(&format!("{name}{number}"))?);
                    }
                }
            }
        }
        Some(out)
    }

    fn registers(&mut self, registers: &Registers<'a>) -> Parsed<()> {
        let ty = (registers.ty, registers.lanes);
        for &(name, count) in &registers.names {
            match count {
                Some(count) => self.scopes.declare_range(name, count, ty),
                None => {
                    let symbol = self.new_registers(ty, name, registers.line)?;
                    self.declare(name, symbol, registers.line)?;
                }
            }
        }
        Ok(())
    }

    fn variable(&mut self, variable: &'m Variable<'a>) -> Parsed<()> {
        let symbol = match variable.space {
            StateSpace::Shared if variable.bytes == 0 => Symbol::Dynamic(variable.align),
            StateSpace::Shared => {
                Symbol::Shared(self.builder.allocate_shared(variable.bytes, variable.align, variable.line)?)
            }
            StateSpace::Local | StateSpace::Param => {
                Symbol::Frame(self.allocate_frame(variable.bytes, variable.align, variable.line)?)
            }
            StateSpace::Global | StateSpace::Const | StateSpace::Register => {
                return Err(ParseError::new(variable.line, "a variable of another space is expected here"));
            }
        };
        self.declare_variable(variable, symbol)
    }

    fn instruction(&mut self, instruction: &'m Instruction<'a>) -> Parsed<()> {
        if self.routine.code.len() > CODE {
            return self.fail(format!("a function of more than {CODE} instructions"));
        }
        self.span = SourceSpan { line: instruction.line, start: instruction.span.0, end: instruction.span.1 };
        self.parts = 0;
        self.guard = Pred::NONE;
        if let Some((name, negated)) = instruction.guard {
            self.guard = Pred { negated, ..self.predicate(&Operand::Name(name))? };
        }
        let mut suffixes = Suffixes::new(instruction);
        self.dispatch(instruction, &mut suffixes)?;
        suffixes.done()
    }

    fn dispatch(&mut self, i: &'m Instruction<'a>, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        match i.name {
            "ld" | "ldu" => self.load(s),
            "st" => self.store(s),
            "atom" | "red" => self.atomic(i.name == "red", s),
            "cvta" => self.convert_address(s),
            "isspacep" => self.in_space(s),
            "istypep" => self.of_type(s),
            "createpolicy" => self.create_policy(s),
            "prefetch" | "prefetchu" => self.prefetch(i.name == "prefetchu", s),
            "applypriority" | "discard" => self.line(i.name == "discard", s),
            "mov" => self.mov(s),
            "add" | "sub" | "mul" | "mad" | "fma" | "div" | "min" | "max" | "abs" | "neg" => {
                self.arithmetic(i.name, s)
            }
            "rem" | "sad" | "mul24" | "mad24" | "dp4a" | "dp2a" => self.integer(i.name, s),
            "addc" | "subc" | "madc" => self.carry(i.name, s),
            "rcp" | "rsqrt" | "sqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh" | "copysign" | "testp" => {
                self.function(i.name, s)
            }
            "and" | "or" | "xor" | "not" | "cnot" | "shl" | "shr" | "shf" | "lop3" | "prmt" | "bfe"
            | "bfi" | "bfind" | "popc" | "clz" | "brev" | "fns" | "bmsk" | "szext" => self.logic(i.name, s),
            "vadd" | "vsub" | "vabsdiff" | "vmin" | "vmax" | "vshl" | "vshr" | "vmad" | "vset" | "vadd2"
            | "vsub2" | "vavrg2" | "vabsdiff2" | "vmin2" | "vmax2" | "vset2" | "vadd4" | "vsub4"
            | "vavrg4" | "vabsdiff4" | "vmin4" | "vmax4" | "vset4" => self.video(i.name, s),
            "setp" => self.setp(s),
            "set" => self.set(s),
            "selp" => self.selp(s),
            "slct" => self.slct(s),
            "cvt" => self.cvt(s),
            "bra" => self.branch(s),
            "brx" => self.branch_table(s),
            "call" => self.call(i, s),
            "ret" => self.ret(s),
            "alloca" | "stacksave" | "stackrestore" => self.stack(i.name, s),
            "exit" => self.plain(Op::Exit, s),
            "trap" | "brkpt" => self.plain(Op::Trap, s),
            "nanosleep" | "pmevent" | "griddepcontrol" => self.unseen(i.name, s),
            "membar" | "fence" => self.fence(s),
            "bar" | "barrier" => self.barrier(i.name, s),
            "shfl" | "vote" | "match" | "redux" | "activemask" | "elect" => self.exchange(i.name, s),
            "cp" => self.async_copy(s),
            "ldmatrix" | "stmatrix" | "movmatrix" => self.matrix(i.name, s),
            "mma" => self.mma(s),
            "wmma" => self.wmma(s),
            _ => Err(s.unknown()),
        }
    }

    /// Adds an instruction at the end.
    pub fn emit(&mut self, op: Op) {
        let counts = u32::from(self.parts == 0);
        self.parts += 1;
        self.routine.code.push(Inst { op, guard: self.guard, counts });
        self.routine.spans.push(self.span);
    }

    /// Adds a lane function.
    pub fn emit_lanes(&mut self, f: LaneFn, to: Loc, from: [Loc; 3]) {
        self.emit(match f {
            LaneFn::Bits32(f) => Op::Lane32(f, to, from),
            LaneFn::Bits64(f) => Op::Lane64(f, to, from),
        });
    }
}

/// A register, or as many as a vector has lanes.
pub(super) fn new_registers(routine: &mut Routine, (ty, lanes): (Type, u8), name: &str) -> Option<Symbol> {
    if lanes == 1 {
        return new_register(routine, ty, name.to_owned()).map(Symbol::Register);
    }
    let first = new_register(routine, ty, format!("{name}.x"))?;
    for element in ["y", "z", "w"].iter().take(usize::from(lanes) - 1) {
        new_register(routine, ty, format!("{name}.{element}"))?;
    }
    Some(Symbol::Vector(first, lanes))
}

fn new_register(routine: &mut Routine, ty: Type, name: String) -> Option<Register> {
    let file = match (ty.kind, ty.width()) {
        (Kind::Predicate, _) => RegisterFile::Predicate,
        (Kind::Opaque, _) => return None,
        (_, 0..=32) => RegisterFile::Bits32,
        (_, 64) => RegisterFile::Bits64,
        _ => return None,
    };
    let names = &mut routine.register_names[file];
    names.push(name);
    Some(Register { file, index: names.len() - 1, ty })
}
