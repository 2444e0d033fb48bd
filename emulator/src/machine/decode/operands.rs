//! Operands: names, registers, constants, addresses.

use super::body::{Body, new_registers};
use super::scope::{Register, Symbol};
use super::special;
use crate::machine::lanes::{LaneFn32, LaneFn64, lanes};
use crate::machine::program::{Loc, Op, Pred, RegisterFile, Value, function_address};
use crate::space::StateSpace;
use crate::syntax::{Kind, Operand, Parsed, Type};

impl<'a> Body<'_, '_, 'a> {
    /// The symbol of a name.
    pub fn symbol(&mut self, name: &'a str) -> Parsed<Symbol> {
        let routine = &mut self.routine;
        if let Some(symbol) = self.scopes.find(name, |ty, lanes| new_registers(routine, (ty, lanes), name)) {
            return Ok(symbol);
        }
        let names = self.builder.names;
        if let Some(&variable) = names.variables.get(name) {
            let v = &names.unit.variables[variable];
            return match v.space {
                StateSpace::Shared if v.bytes == 0 => Ok(Symbol::Dynamic(v.align)),
                StateSpace::Shared => Ok(Symbol::Shared(self.builder.shared_offset(variable)?)),
                StateSpace::Local => Ok(Symbol::Local(names.locals.get(&variable).copied().unwrap_or(0))),
                _ => Ok(Symbol::Global(variable)),
            };
        }
        if let Some(&function) = names.functions.get(name) {
            return Ok(Symbol::Function(function));
        }
        self.fail(format!("{name} is not declared"))
    }

    /// An element of a vector register.
    pub fn component(&mut self, name: &'a str, lane: u8) -> Parsed<Register> {
        match self.symbol(name)? {
            Symbol::Vector(first, lanes) if lane < lanes => {
                Ok(Register { index: first.index + usize::from(lane), ..first })
            }
            _ => self.fail(format!("{name} is not a vector register with such an element")),
        }
    }

    /// The symbol of an operand that is a name; `None` for other operands.
    fn named(&mut self, operand: &Operand<'a>) -> Parsed<Option<Symbol>> {
        Ok(match operand {
            Operand::Name(name) => Some(self.symbol(name)?),
            Operand::Component(name, lane) => Some(Symbol::Register(self.component(name, *lane)?)),
            _ => None,
        })
    }

    /// The variable of `name[index]`, and the bytes to add to its address.
    pub fn element(&mut self, name: &'a str, index: i64) -> Parsed<(Symbol, i64)> {
        let symbol = self.symbol(name)?;
        let names = self.builder.names;
        let module = || names.variables.get(name).map(|&v| names.unit.variables[v].ty.bytes());
        let bytes = match symbol {
            Symbol::Register(_) | Symbol::Vector(..) | Symbol::Function(_) => None,
            _ => self.scopes.extent(name).map(|extent| extent.element).or_else(module),
        };
        match bytes {
            Some(bytes) => Ok((symbol, index.wrapping_mul(bytes as i64))),
            None => self.fail(format!("{name} is not an array whose element could be named")),
        }
    }

    /// The label's number, for branches.
    pub fn label(&mut self, name: &'a str) -> Parsed<u32> {
        match self.scopes.numbers().find_map(|scope| self.labels.get(&(scope, name))) {
            Some(&index) => Ok(index as u32),
            None => self.fail(format!("label {name} is not defined")),
        }
    }

    /// The register of an operand.
    pub fn register(&mut self, operand: &Operand<'a>) -> Parsed<Register> {
        match (self.named(operand)?, operand) {
            (Some(Symbol::Register(register)), _) => Ok(register),
            (_, Operand::Name(name)) => self.fail(format!("expected a register, not {name}")),
            _ => self.fail("expected a register"),
        }
    }

    /// A predicate operand: `p`, `!p`, or an integer, where only 0 is false.
    pub fn predicate(&mut self, operand: &Operand<'a>) -> Parsed<Pred> {
        let (name, negated) = match operand {
            Operand::Name(name) => (name, false),
            Operand::Not(name) => (name, true),
            Operand::Integer(value) => return Ok(if *value == 0 { Pred::FALSE } else { Pred::NONE }),
            _ => return self.fail("expected a predicate"),
        };
        if let Some(special) = self.special_predicate(name)? {
            return Ok(Pred { negated, ..special });
        }
        let register = self.register(&Operand::Name(name))?;
        if register.file != RegisterFile::Predicate {
            return self.fail(format!("{name} is not a predicate"));
        }
        Ok(Pred { index: register.index as u32, negated })
    }

    /// A predicate destination; `_` discards it.
    pub fn predicate_to(&mut self, operand: &Operand<'a>) -> Parsed<Pred> {
        match operand {
            Operand::Name("_") => Ok(Pred::NONE),
            Operand::Name(_) => self.predicate(operand),
            _ => self.fail("expected a predicate for the result"),
        }
    }

    /// Allocates a temporary register.
    pub fn column(&mut self, ty: Type) -> Parsed<Loc> {
        Ok(Loc::register(self.temporary(ty)?.index))
    }

    /// A temporary 32-bit register.
    pub fn scratch(&mut self) -> Parsed<Loc> {
        self.column(Type::B32)
    }

    /// Allocates a temporary predicate.
    pub fn scratch_predicate(&mut self) -> Parsed<Pred> {
        let ty = Type::PREDICATE;
        Ok(Pred { index: self.temporary(ty)?.index as u32, negated: false })
    }

    /// The column of an operand that is read as `ty`.
    pub fn value(&mut self, operand: &Operand<'a>, ty: Type) -> Parsed<Loc> {
        let wide = ty.width() == 64;
        match operand {
            Operand::Name(_) | Operand::Component(..) => {
                if let Operand::Name(name) = operand
                    && let Some(reading) = special::named(name)
                {
                    return self.special(name, reading, ty);
                }
                match self.named(operand)? {
                    Some(Symbol::Register(register)) => self.sized(operand, register, ty),
                    Some(symbol) => self.address_of(symbol, 0, wide),
                    None => self.fail("expected a name"),
                }
            }
            Operand::Offset(name, offset) => match self.symbol(name)? {
                Symbol::Register(register) => {
                    let base = self.sized(&Operand::Name(name), register, ty)?;
                    self.plus(base, *offset, ty)
                }
                symbol => self.address_of(symbol, *offset, wide),
            },
            Operand::Element(name, index) => {
                let (symbol, offset) = self.element(name, *index)?;
                self.address_of(symbol, offset, wide)
            }
            _ => {
                let bits = self.immediate(operand, ty)?;
                Ok(if wide { self.builder.constant64(bits) } else { self.builder.constant32(bits as u32) })
            }
        }
    }

    /// A register's column, if it has the required number of bits.
    fn sized(&self, operand: &Operand<'a>, register: Register, ty: Type) -> Parsed<Loc> {
        let (bits, wanted) = (register.ty.width(), ty.width());
        if register.file == RegisterFile::Predicate || bits != wanted {
            let name = match operand {
                Operand::Name(name) | Operand::Component(name, _) => name,
                _ => "a register",
            };
            return self.fail(format!("{name} has {bits} bits; {wanted} are expected here"));
        }
        Ok(Loc::register(register.index))
    }

    /// A register plus a number, as `%r+4` means outside of addresses.
    fn plus(&mut self, base: Loc, offset: i64, ty: Type) -> Parsed<Loc> {
        let to = self.column(ty)?;
        match ty.width() {
            64 => {
                let add: LaneFn64 = lanes!(|a, b, _| a.wrapping_add(b));
                let offset = self.builder.constant64(offset as u64);
                self.emit(Op::Lane64(add, to, [base, offset, Loc::ZERO]));
            }
            32 => {
                let add: LaneFn32 = lanes!(|a, b, _| a.wrapping_add(b));
                let offset = self.builder.constant32(offset as u32);
                self.emit(Op::Lane32(add, to, [base, offset, Loc::ZERO]));
            }
            16 => {
                let add: LaneFn32 = lanes!(|a, b, _| a.wrapping_add(b) & 0xffff);
                let offset = self.builder.constant32(offset as u32);
                self.emit(Op::Lane32(add, to, [base, offset, Loc::ZERO]));
            }
            bits => return self.fail(format!("nothing can be added to a register of {bits} bits here")),
        }
        Ok(to)
    }

    /// The bits of a constant operand of type `ty`.
    pub fn immediate(&self, operand: &Operand<'a>, ty: Type) -> Parsed<u64> {
        let float = ty.kind == Kind::Float && !ty.pair && ty.bits >= 32;
        let bits = match (operand, ty.width()) {
            (Operand::Integer(value), 32) if float => u64::from((*value as f32).to_bits()),
            (Operand::Integer(value), 64) if float => (*value as f64).to_bits(),
            (Operand::Integer(value), _) => *value as u64,
            (Operand::Single(bits), 32) => u64::from(*bits),
            (Operand::Single(bits), 64) if !ty.integer() => f64::from(f32::from_bits(*bits)).to_bits(),
            (Operand::Double(bits), 32) => u64::from((f64::from_bits(*bits) as f32).to_bits()),
            (Operand::Double(bits), 64) => *bits,
            _ => return self.fail("expected a register or a constant of the instruction's type"),
        };
        Ok(bits & (u64::MAX >> (64 - ty.width().clamp(1, 64))))
    }

    /// The column of a variable's address.
    pub fn address_of(&mut self, symbol: Symbol, offset: i64, wide: bool) -> Parsed<Loc> {
        match symbol {
            Symbol::Register(_) | Symbol::Vector(..) => self.fail("expected a variable, not a register"),
            Symbol::Param(at) | Symbol::Shared(at) | Symbol::Local(at) => {
                let address = at.wrapping_add(offset as u64);
                Ok(if wide {
                    self.builder.constant64(address)
                } else {
                    self.builder.constant32(address as u32)
                })
            }
            Symbol::Dynamic(align) => Ok(self.builder.dynamic_address(offset, align, wide)),
            Symbol::Global(variable) if wide => Ok(self.builder.global_address(variable, offset)),
            Symbol::Global(_) => self.fail("a global address has 64 bits"),
            Symbol::Function(function) if wide => {
                let found = &self.builder.names.unit.functions[function];
                if found.body.is_none() {
                    return self.fail(format!("{} is declared but not defined", found.name));
                }
                let address = function_address(function);
                Ok(self.builder.constant64(address.wrapping_add(offset as u64)))
            }
            Symbol::Function(_) => self.fail("a function's address has 64 bits"),
            Symbol::Frame(at) => {
                let loc = self.column(if wide { Type::B64 } else { Type::B32 })?;
                self.emit(Op::FrameAddress(Value::new(loc, wide), at.wrapping_add(offset as u64)));
                Ok(loc)
            }
        }
    }

    /// The column for a result of type `ty`; `_` is a register that is never read.
    pub fn to(&mut self, operand: &Operand<'a>, ty: Type) -> Parsed<Loc> {
        if *operand == Operand::Name("_") {
            return self.column(ty);
        }
        let register = self.register(operand)?;
        if register.file == RegisterFile::Predicate || register.ty.width() != ty.width() {
            return self.fail(format!(
                "the result has {} bits, its register {}",
                ty.width(),
                register.ty.width()
            ));
        }
        Ok(Loc::register(register.index))
    }

    /// A register or constant that may be wider than `ty`, as loads, stores and conversions allow.
    pub fn loose_value(&mut self, operand: &Operand<'a>, ty: Type) -> Parsed<Value> {
        let special = matches!(operand, Operand::Name(name) if special::named(name).is_some());
        if !special && let Some(Symbol::Register(register)) = self.named(operand)? {
            if register.file == RegisterFile::Predicate || register.ty.width() < ty.width() {
                let name = match operand {
                    Operand::Name(name) | Operand::Component(name, _) => name,
                    _ => "a register",
                };
                return self.fail(format!("{name} has fewer than {} bits", ty.width()));
            }
            return Ok(Value {
                loc: Loc::register(register.index),
                wide: register.file == RegisterFile::Bits64,
                sixteen: register.ty.width() <= 16,
            });
        }
        Ok(Value::new(self.value(operand, ty)?, ty.width() == 64))
    }

    /// A register that may be wider than its result; `_` is a register that is never read.
    pub fn loose_to(&mut self, operand: &Operand<'a>, ty: Type) -> Parsed<Value> {
        if *operand == Operand::Name("_") {
            return Ok(Value::new(self.to(operand, ty)?, ty.width() == 64));
        }
        let register = self.register(operand)?;
        if register.file == RegisterFile::Predicate || register.ty.width() < ty.width() {
            return self.fail(format!("the result has {} bits, more than its register", ty.width()));
        }
        Ok(Value {
            loc: Loc::register(register.index),
            wide: register.file == RegisterFile::Bits64,
            sixteen: register.ty.width() <= 16,
        })
    }
}
