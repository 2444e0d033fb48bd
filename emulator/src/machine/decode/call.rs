//! Calls: by name, through a register, and to functions of CUDA's runtime that are not PTX.

use super::body::Body;
use super::scope::Symbol;
use super::suffix::Suffixes;
use crate::machine::program::{Address, Argument, CallOp, Callee, Loc, Op, Transfer, Value};
use crate::space::StateSpace;
use crate::syntax::{Call, Instruction, Kind, Operand, Parsed, Type, Variable};

/// The results and the parameters of a function.
type Signature<'m, 'a> = (&'m [Variable<'a>], &'m [Variable<'a>]);

impl<'m, 'a> Body<'_, 'm, 'a> {
    pub(super) fn call(&mut self, i: &'m Instruction<'a>, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        s.take("uni");
        let Some(call) = &i.call else { return Err(s.unknown()) };
        let unit = self.builder.names.unit;
        let (callee, (returns, parameters)): (_, Signature<'m, 'a>) = match self.symbol(call.callee)? {
            Symbol::Function(function) => {
                let f = &unit.functions[function];
                if f.entry {
                    return self.fail(format!("{} is a kernel and cannot be called", f.name));
                }
                if f.body.is_none() {
                    return self.outside(f.name, call);
                }
                (Callee::Direct(self.builder.routine(function)), (&f.returns, &f.parameters))
            }
            Symbol::Register(_) => {
                let loc = self.wide_value(&Operand::Name(call.callee))?;
                self.builder.add_address_taken();
                (Callee::Indirect(loc), self.through(call)?)
            }
            _ => return self.fail(format!("{} is not a function", call.callee)),
        };
        if returns.len() != call.returns.len() || parameters.len() != call.arguments.len() {
            return self.fail(format!(
                "{} takes {} arguments and gives {} results, not {} and {}",
                call.callee,
                parameters.len(),
                returns.len(),
                call.arguments.len(),
                call.returns.len()
            ));
        }
        let (mut results, mut arguments) = (Vec::new(), Vec::new());
        for (operand, formal) in call.returns.iter().zip(returns) {
            self.each_part(operand, formal, |body, part| body.result(part, formal), &mut results)?;
        }
        for (operand, formal) in call.arguments.iter().zip(parameters) {
            self.each_part(operand, formal, |body, part| body.argument(part, formal), &mut arguments)?;
        }
        self.emit(Op::Call(Box::new(CallOp { callee, arguments, returns: results })));
        Ok(())
    }

    /// The signature of a function that is called through a register: its prototype's, or that of the functions in a list.
    fn through(&self, call: &Call<'a>) -> Parsed<Signature<'m, 'a>> {
        let names = self.builder.names;
        if let Some(prototype) = call.through.and_then(|name| self.prototypes.get(name)) {
            return Ok((&prototype.returns, &prototype.parameters));
        }
        let Some(list) = call.through.and_then(|name| self.lists.get(name)) else {
            return self.fail(
                "a call through a register needs a .callprototype that stands before it, or .calltargets",
            );
        };
        let mut first = None;
        for (name, _) in *list {
            let Some(&function) = names.functions.get(name) else {
                return self.fail(format!("{name} is not a function"));
            };
            first = first.or(Some(&names.unit.functions[function]));
        }
        match first {
            Some(function) => Ok((&function.returns, &function.parameters)),
            None => self.fail("an empty list of functions"),
        }
    }

    /// The parts of an operand: one for each element if the formal parameter is a vector of registers.
    fn each_part(
        &mut self,
        operand: &Operand<'a>,
        formal: &Variable<'a>,
        mut part: impl FnMut(&mut Self, &Operand<'a>) -> Parsed<Argument>,
        out: &mut Vec<Argument>,
    ) -> Parsed<()> {
        let lanes = if formal.space == StateSpace::Register { usize::from(formal.lanes) } else { 1 };
        let parts = match operand {
            Operand::Vector(parts) => parts.as_slice(),
            single => std::slice::from_ref(single),
        };
        if *operand == Operand::Name("_") {
            for _ in 0..lanes {
                out.push(part(self, operand)?);
            }
            return Ok(());
        }
        if parts.len() != lanes {
            return self.fail(format!("{} has {lanes} elements, not {}", formal.name, parts.len()));
        }
        for operand in parts {
            out.push(part(self, operand)?);
        }
        Ok(())
    }

    fn argument(&mut self, operand: &Operand<'a>, formal: &Variable<'a>) -> Parsed<Argument> {
        if formal.ty.kind == Kind::Predicate {
            return Ok(Argument::Predicate(self.predicate(operand)?));
        }
        if let Operand::Name(name) = operand
            && let Ok(Symbol::Frame(offset)) = self.symbol(name)
        {
            let bytes = if formal.bytes == 0 { self.scopes.extent(name).map(|e| e.bytes) } else { None };
            return Ok(Argument::Frame { offset, bytes: bytes.unwrap_or(formal.bytes) });
        }
        Ok(Argument::Value(Value::new(self.value(operand, formal.ty)?, formal.ty.width() == 64)))
    }

    /// The destination of a result; `_` discards it.
    fn result(&mut self, operand: &Operand<'a>, formal: &Variable<'a>) -> Parsed<Argument> {
        if formal.ty.kind == Kind::Predicate {
            return Ok(Argument::Predicate(self.predicate_to(operand)?));
        }
        if let Operand::Name(name) = operand
            && *name != "_"
            && let Symbol::Frame(offset) = self.symbol(name)?
        {
            return Ok(Argument::Frame { offset, bytes: formal.bytes });
        }
        Ok(Argument::Value(Value::new(self.to(operand, formal.ty)?, formal.ty.width() == 64)))
    }

    /// Functions of CUDA's runtime that are not PTX: a failed assertion stops the kernel, `printf` prints nothing,
    /// `malloc` and `free` go to the device's heap.
    fn outside(&mut self, name: &str, call: &Call<'a>) -> Parsed<()> {
        match (name, call.returns.as_slice()) {
            ("__assertfail", _) => self.emit(Op::Trap),
            ("vprintf", [to]) => {
                let Some(address) = self.frame_variable(to)? else {
                    return self.fail("expected a .param variable");
                };
                let mut store = Transfer::new(address, 4, 1);
                store.values[0] = Value::ZERO;
                self.emit(Op::Store(Box::new(store)));
            }
            ("malloc", [to]) if call.arguments.len() == 1 => {
                let (bytes, address) = (self.given(&call.arguments[0])?, self.column(Type::B64)?);
                self.emit(Op::Malloc(address, bytes));
                self.uses_heap();
                match self.frame_variable(to)? {
                    Some(variable) => {
                        let mut store = Transfer::new(variable, 8, 1);
                        store.values[0] = Value::new(address, true);
                        self.emit(Op::Store(Box::new(store)));
                    }
                    None => {
                        let to = self.to(to, Type::B64)?;
                        self.emit(Op::Copy64(to, address));
                    }
                }
            }
            ("free", []) if call.arguments.len() == 1 => {
                let address = self.given(&call.arguments[0])?;
                self.emit(Op::Free(address));
                self.uses_heap();
            }
            _ => return self.fail(format!("{name} is declared but not defined")),
        }
        Ok(())
    }

    /// Addresses depend on the order of blocks, so blocks must run in order.
    fn uses_heap(&mut self) {
        self.builder.heap = true;
        self.builder.ordered = true;
    }

    /// A 64-bit argument of such a function, in a `.param` variable or a register.
    fn given(&mut self, operand: &Operand<'a>) -> Parsed<Loc> {
        let Some(variable) = self.frame_variable(operand)? else { return self.value(operand, Type::B64) };
        let value = self.column(Type::B64)?;
        let mut load = Transfer::new(variable, 8, 1);
        load.values[0] = Value::new(value, true);
        self.emit(Op::Load(Box::new(load)));
        Ok(value)
    }

    /// The address of a variable in the frame; `None` for other operands.
    fn frame_variable(&mut self, operand: &Operand<'a>) -> Parsed<Option<Address>> {
        let Operand::Name(name) = operand else { return Ok(None) };
        if *name == "_" {
            return Ok(None);
        }
        Ok(match self.symbol(name)? {
            Symbol::Frame(offset) => Some(Address::in_frame(offset as i64)),
            _ => None,
        })
    }
}
