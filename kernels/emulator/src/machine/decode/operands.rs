//! Operands: names, registers, constants, addresses.

use super::super::program::{Loc, Op, Pred, Special, Value};
use super::body::{Body, new_register};
use super::scope::{Class, Register, Symbol};
use crate::syntax::{Kind, Operand, Parsed, Space, Type};

impl<'a> Body<'_, '_, 'a> {
    /// What a name stands for.
    pub fn symbol(&mut self, name: &'a str) -> Parsed<Symbol> {
        let routine = &mut self.routine;
        if let Some(symbol) = self.scopes.find(name, |ty| new_register(routine, ty, name)) {
            return Ok(symbol);
        }
        let names = self.build.names;
        if let Some(&variable) = names.variables.get(name) {
            let v = &names.unit.variables[variable];
            return match v.space {
                Space::Shared if v.bytes == 0 => Ok(Symbol::Dynamic(v.align)),
                Space::Shared => Ok(Symbol::Shared(self.build.shared_offset(variable)?)),
                _ => Ok(Symbol::Global(variable)),
            };
        }
        if let Some(&function) = names.functions.get(name) {
            return Ok(Symbol::Function(function));
        }
        self.fail(format!("{name} is not declared"))
    }

    /// The label's number, for branches.
    pub fn label(&mut self, name: &'a str) -> Parsed<u32> {
        match self.scopes.numbers().find_map(|scope| self.labels.get(&(scope, name))) {
            Some(&index) => Ok(index as u32),
            None => self.fail(format!("label {name} stands nowhere")),
        }
    }

    /// The register of an operand.
    pub fn register(&mut self, operand: &Operand<'a>) -> Parsed<Register> {
        match operand {
            Operand::Name(name) => match self.symbol(name)? {
                Symbol::Register(register) => Ok(register),
                _ => self.fail(format!("expected a register, not {name}")),
            },
            _ => self.fail("expected a register"),
        }
    }

    /// A predicate that is read: `p`, `!p`, or an integer, of which 0 alone is false.
    pub fn predicate(&mut self, operand: &Operand<'a>) -> Parsed<Pred> {
        let (name, negated) = match operand {
            Operand::Name(name) => (name, false),
            Operand::Not(name) => (name, true),
            Operand::Integer(value) => return Ok(if *value == 0 { Pred::FALSE } else { Pred::NONE }),
            _ => return self.fail("expected a predicate"),
        };
        let register = self.register(&Operand::Name(name))?;
        if register.class != Class::Predicate {
            return self.fail(format!("{name} is not a predicate"));
        }
        Ok(Pred { index: register.index as u32, negated })
    }

    /// A predicate that is written; `_` is nowhere.
    pub fn predicate_to(&mut self, operand: &Operand<'a>) -> Parsed<Pred> {
        match operand {
            Operand::Name("_") => Ok(Pred::NONE),
            Operand::Name(_) => self.predicate(operand),
            _ => self.fail("expected a predicate for the result"),
        }
    }

    /// A predicate that no name stands for.
    pub fn scratch_predicate(&mut self) -> Parsed<Pred> {
        let ty = Type { kind: Kind::Predicate, bits: 1, pair: false };
        Ok(Pred { index: self.temporary(ty)?.index as u32, negated: false })
    }

    /// The column of an operand that is read as `ty`.
    pub fn value(&mut self, operand: &Operand<'a>, ty: Type) -> Parsed<Loc> {
        let wide = ty.width() == 64;
        match operand {
            Operand::Name(name) if name.starts_with('%') && Special::named(name).is_some() => {
                match Special::named(name) {
                    Some(special) if !wide => Ok(Loc::special(special)),
                    _ => self.fail(format!("{name} has 32 bits, not {}", ty.width())),
                }
            }
            Operand::Name(name) if is_clock(name) => {
                let register = self.temporary(ty)?;
                let loc = Loc::register(register.index);
                self.emit(Op::Clock(Value::new(loc, wide)));
                Ok(loc)
            }
            Operand::Name(name) => match self.symbol(name)? {
                Symbol::Register(register) => {
                    if register.class == Class::Predicate || register.ty.width() != ty.width() {
                        return self.fail(format!(
                            "{name} has {} bits; {} are wanted here",
                            register.ty.width(),
                            ty.width()
                        ));
                    }
                    Ok(Loc::register(register.index))
                }
                symbol => self.address_of(symbol, 0, wide),
            },
            Operand::Offset(name, offset) => {
                let symbol = self.symbol(name)?;
                self.address_of(symbol, *offset, wide)
            }
            _ => {
                let bits = self.immediate(operand, ty)?;
                Ok(if wide { self.build.constant64(bits) } else { self.build.constant32(bits as u32) })
            }
        }
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
            Symbol::Register(_) => self.fail("expected a variable, not a register"),
            Symbol::Param(at) | Symbol::Shared(at) => {
                let address = at.wrapping_add(offset as u64);
                Ok(if wide { self.build.constant64(address) } else { self.build.constant32(address as u32) })
            }
            Symbol::Dynamic(align) => Ok(self.build.dynamic_address(offset, align, wide)),
            Symbol::Global(variable) if wide => Ok(self.build.global_address(variable, offset)),
            Symbol::Global(_) => self.fail("a global address has 64 bits"),
            Symbol::Function(function) if wide => {
                let place = self.build.place(function);
                Ok(self.build.constant64(super::super::call::address(place)))
            }
            Symbol::Function(_) => self.fail("a function's address has 64 bits"),
            Symbol::Frame(at) => {
                let ty = Type { kind: Kind::Bits, bits: if wide { 64 } else { 32 }, pair: false };
                let loc = Loc::register(self.temporary(ty)?.index);
                self.emit(Op::FrameAddress(Value::new(loc, wide), at.wrapping_add(offset as u64)));
                Ok(loc)
            }
        }
    }

    /// The column that a result of type `ty` goes to; `_` is a register that nobody reads.
    pub fn to(&mut self, operand: &Operand<'a>, ty: Type) -> Parsed<Loc> {
        if *operand == Operand::Name("_") {
            return Ok(Loc::register(self.temporary(ty)?.index));
        }
        let register = self.register(operand)?;
        if register.class == Class::Predicate || register.ty.width() != ty.width() {
            return self.fail(format!(
                "the result has {} bits, its register {}",
                ty.width(),
                register.ty.width()
            ));
        }
        Ok(Loc::register(register.index))
    }

    /// A register or constant that may be wider than `ty` (loads, stores and conversions allow it).
    pub fn loose_value(&mut self, operand: &Operand<'a>, ty: Type) -> Parsed<Value> {
        if let Operand::Name(name) = operand
            && Special::named(name).is_none()
            && !is_clock(name)
            && let Symbol::Register(register) = self.symbol(name)?
        {
            if register.class == Class::Predicate || register.ty.width() < ty.width() {
                return self.fail(format!("{name} has fewer than {} bits", ty.width()));
            }
            return Ok(Value {
                loc: Loc::register(register.index),
                wide: register.class == Class::Wide,
                sixteen: register.ty.width() <= 16,
            });
        }
        Ok(Value::new(self.value(operand, ty)?, ty.width() == 64))
    }

    /// A register for a result that it may be wider than; `_` is a register that nobody reads.
    pub fn loose_to(&mut self, operand: &Operand<'a>, ty: Type) -> Parsed<Value> {
        if *operand == Operand::Name("_") {
            return Ok(Value::new(self.to(operand, ty)?, ty.width() == 64));
        }
        let register = self.register(operand)?;
        if register.class == Class::Predicate || register.ty.width() < ty.width() {
            return self.fail(format!("the result has {} bits, more than its register", ty.width()));
        }
        Ok(Value {
            loc: Loc::register(register.index),
            wide: register.class == Class::Wide,
            sixteen: register.ty.width() <= 16,
        })
    }
}

fn is_clock(name: &str) -> bool {
    matches!(
        name,
        "%clock" | "%clock_hi" | "%clock64" | "%globaltimer" | "%globaltimer_lo" | "%globaltimer_hi"
    )
}
