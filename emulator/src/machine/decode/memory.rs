//! Loads, stores, atomics and address conversions (PTX ISA, "Data Movement and Conversion Instructions").

use super::super::atomic::{Atomic, AtomicOp};
use super::super::lanes::lanes;
use super::super::program::{
    Address, ConvertAddress, Loc, Logic, Op, Pred, StateSpace, Transfer, Value, Window,
};
use super::body::Body;
use super::scope::{Class, Symbol};
use super::suffix::Suffixes;
use crate::syntax::{Base, Kind, Operand, Parsed, Type};

const SCOPES: [&str; 4] = ["cta", "cluster", "gpu", "sys"];
const CACHES: [&str; 17] = [
    "ca",
    "cg",
    "cs",
    "lu",
    "cv",
    "wb",
    "wt",
    "nc",
    "unified",
    "L1::evict_normal",
    "L1::evict_unchanged",
    "L1::evict_first",
    "L1::evict_last",
    "L1::no_allocate",
    "L2::64B",
    "L2::128B",
    "L2::256B",
];
const SPACES: [&str; 11] = [
    "global",
    "shared",
    "shared::cta",
    "local",
    "param",
    "param::entry",
    "param::func",
    "const",
    "generic",
    "tex",
    "shared::cluster",
];
/// Untyped 64 bits.
pub(super) const B64: Type = Type { kind: Kind::Bits, bits: 64, pair: false };

/// What load and store instructions have in common.
struct Form {
    /// The state space that is named; `None` for generic addresses.
    space: Option<&'static str>,
    /// Its value may be another thread's: `.volatile`, `.relaxed`, `.acquire`.
    strong: bool,
    /// `.acquire` or `.release`.
    orders: bool,
    /// Elements.
    count: usize,
    ty: Type,
    /// One more operand: a cache policy.
    policy: bool,
}

impl<'m, 'a> Body<'_, 'm, 'a> {
    fn form(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<Form> {
        let strength = s.take_any(&["volatile", "relaxed", "acquire", "release"]);
        s.take("mmio");
        let (strong, orders) = (strength.is_some(), matches!(strength, Some("acquire" | "release")));
        s.take("weak");
        s.take_any(&SCOPES);
        let policy = self.hints(s);
        let space = s.take_any(&SPACES).filter(|space| *space != "generic");
        let count = match s.take_any(&["v2", "v4"]) {
            Some("v2") => 2,
            Some(_) => 4,
            None => 1,
        };
        let ty = s.ty()?;
        if ty.kind == Kind::Predicate || ty.width() * count as u32 > 128 {
            return Err(s.unknown());
        }
        // A register of 128 bits is a vector of two halves.
        let (ty, count) = if ty.width() == 128 { (B64, 2) } else { (ty, count) };
        Ok(Form { space, strong, orders, count, ty, policy })
    }

    /// Takes the cache hints; true if a cache policy is among the operands.
    fn hints(&mut self, s: &mut Suffixes<'m, 'a>) -> bool {
        let policy = s.take("L2::cache_hint");
        while s.take_any(&CACHES).is_some() {}
        policy
    }

    /// The address operand in a state space.
    pub fn address(&mut self, operand: &Operand<'a>, space: Option<&str>) -> Parsed<Address> {
        let (base, offset) = match *operand {
            Operand::Address(base, offset) => (base, offset),
            // `name[index]` is the element itself.
            Operand::Element(name, index) => (Base::Name(name), self.element(name, index)?.1),
            _ => return self.fail("expected an address in [ ]"),
        };
        let entry = self.function.entry;
        let named = match space {
            None => StateSpace::Generic,
            Some("global" | "const") => StateSpace::Global,
            Some("shared" | "shared::cta" | "shared::cluster") => StateSpace::Shared,
            Some("local") => StateSpace::Local,
            Some("param" | "param::entry" | "param::func") if entry => StateSpace::Param,
            Some("param" | "param::entry" | "param::func") => StateSpace::Local,
            Some(_) => return self.fail("this state space is not supported"),
        };
        let name = match base {
            Base::Absolute => return Ok(Address { room: named, base: Loc::ZERO, wide: true, offset }),
            Base::Name(name) => name,
        };
        let symbol = self.symbol(name)?;
        let wrong = |body: &Self| body.fail(format!("{name} does not lie in the state space of this access"));
        let constant = |room, at: u64| {
            Ok(Address { room, base: Loc::ZERO, wide: true, offset: offset.wrapping_add(at as i64) })
        };
        match symbol {
            Symbol::Register(register) if register.class == Class::Predicate || register.ty.width() < 32 => {
                self.fail(format!("{name} cannot be an address"))
            }
            Symbol::Register(register) => {
                let wide = register.class == Class::Wide;
                if !wide && matches!(named, StateSpace::Global | StateSpace::Generic) {
                    return self.fail(format!("{name} has 32 bits; a global or generic address has 64"));
                }
                Ok(Address { room: named, base: Loc::register(register.index), wide, offset })
            }
            // In a kernel, .param is its own parameters or the arguments of a call that it makes. An access that names no space
            // takes the variable's.
            Symbol::Frame(at)
                if matches!(named, StateSpace::Local | StateSpace::Param | StateSpace::Generic) =>
            {
                constant(StateSpace::Frame, at)
            }
            Symbol::Local(at) if matches!(named, StateSpace::Local | StateSpace::Generic) => {
                constant(StateSpace::Local, at)
            }
            Symbol::Param(at) if named == StateSpace::Param => constant(StateSpace::Param, at),
            Symbol::Shared(at) if matches!(named, StateSpace::Shared | StateSpace::Generic) => {
                constant(StateSpace::Shared, at)
            }
            Symbol::Dynamic(_) if matches!(named, StateSpace::Shared | StateSpace::Generic) => {
                let base = self.address_of(symbol, offset, true)?;
                Ok(Address { room: StateSpace::Shared, base, wide: true, offset: 0 })
            }
            Symbol::Global(_) if matches!(named, StateSpace::Global | StateSpace::Generic) => {
                let base = self.address_of(symbol, offset, true)?;
                Ok(Address { room: StateSpace::Global, base, wide: true, offset: 0 })
            }
            _ => wrong(self),
        }
    }

    /// One operand, or the elements of a vector operand.
    fn elements<'o>(&self, operand: &'o Operand<'a>, count: usize) -> Parsed<&'o [Operand<'a>]> {
        let elements = match operand {
            Operand::Vector(elements) => elements.as_slice(),
            single => std::slice::from_ref(single),
        };
        if elements.len() == count {
            return Ok(elements);
        }
        self.fail(format!("expected {count} values, not {}", elements.len()))
    }

    fn transfer(&self, form: &Form, address: Address) -> Transfer {
        Transfer {
            signed: form.ty.signed(),
            strong: form.strong,
            orders: form.orders,
            ..Transfer::new(address, form.ty.bytes() as u8, form.count as u8)
        }
    }

    /// The operands before a cache policy, which `.L2::cache_hint` promises.
    fn before_policy(&mut self, s: &Suffixes<'m, 'a>, policy: bool) -> Parsed<&'m [Operand<'a>]> {
        match s.all() {
            [.., Operand::Address(..)] if policy => {
                self.fail("a cache policy is missing as the last operand")
            }
            [operands @ .., last] if policy => {
                self.value(last, B64)?;
                Ok(operands)
            }
            operands => Ok(operands),
        }
    }

    fn two(&mut self, s: &Suffixes<'m, 'a>, policy: bool) -> Parsed<[&'m Operand<'a>; 2]> {
        match self.before_policy(s, policy)? {
            [a, b] => Ok([a, b]),
            _ => self.fail(format!("expected {} operands, not {}", 2 + usize::from(policy), s.count())),
        }
    }

    pub(super) fn load(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let form = self.form(s)?;
        let [to, address] = self.two(s, form.policy)?;
        let address = self.address(address, form.space)?;
        self.build.ordered |= form.strong && matches!(address.room, StateSpace::Global | StateSpace::Generic);
        let mut transfer = self.transfer(&form, address);
        for (value, operand) in transfer.values.iter_mut().zip(self.elements(to, form.count)?) {
            *value = self.loose_to(operand, form.ty)?;
        }
        self.emit(Op::Load(Box::new(transfer)));
        Ok(())
    }

    pub(super) fn store(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let form = self.form(s)?;
        let [address, from] = self.two(s, form.policy)?;
        let address = self.address(address, form.space)?;
        if address.room == StateSpace::Param {
            return self.fail("a kernel's parameters cannot be written");
        }
        let mut transfer = self.transfer(&form, address);
        for (value, operand) in transfer.values.iter_mut().zip(self.elements(from, form.count)?) {
            *value = self.loose_value(operand, form.ty)?;
        }
        self.emit(Op::Store(Box::new(transfer)));
        Ok(())
    }

    pub(super) fn atomic(&mut self, reduce: bool, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let strength = s.take_any(&["relaxed", "acquire", "release", "acq_rel"]);
        let orders = strength.is_some_and(|s| s != "relaxed");
        s.take_any(&SCOPES);
        s.take("noftz");
        let policy = self.hints(s);
        let space = s.take_any(&["global", "shared", "shared::cta", "generic"]).filter(|x| *x != "generic");
        let names = ["add", "min", "max", "inc", "dec", "and", "or", "xor", "exch", "cas"];
        let Some(name) = s.take_any(&names) else { return Err(s.unknown()) };
        let count = match s.take_any(&["v2", "v4", "v8"]) {
            Some("v2") => 2,
            Some("v4") => 4,
            Some(_) => 8,
            None => 1,
        };
        let ty = s.ty()?;
        let Some(op) = AtomicOp::named(name, ty) else { return Err(s.unknown()) };
        let vector = count > 1;
        if policy && name == "cas" {
            return Err(s.unknown());
        }
        if vector
            && (ty.integer() || !matches!(name, "add" | "min" | "max") || ty.width() * count as u32 > 128)
        {
            return Err(s.unknown());
        }
        let operands = self.before_policy(s, policy)?;
        let (to, operands) = match operands {
            [to, operands @ ..] if !reduce => (Some(to).filter(|to| **to != Operand::Name("_")), operands),
            operands => (None, operands),
        };
        let (address, first, second) = match operands {
            [address, value] if name != "cas" => (address, value, None),
            [address, expected, value] if name == "cas" => (address, expected, Some(value)),
            _ => return self.fail(format!("an atomic operation with {} operands", s.count())),
        };
        let address = self.address(address, space)?;
        let rooms = matches!(address.room, StateSpace::Global | StateSpace::Generic);
        if !rooms && (vector || address.room != StateSpace::Shared) {
            return Err(s.unknown());
        }
        let order_shows = to.is_some() || !op.commutes();
        self.build.ordered |= rooms && order_shows;
        let (wide, bytes) = (ty.width() == 64, ty.bytes() as u32);
        let atomic = Atomic {
            op,
            address,
            bytes,
            align: bytes * count as u32,
            orders,
            to: None,
            values: [Value::new(Loc::ZERO, wide); 2],
        };
        if !vector {
            let mut atomic = atomic;
            atomic.values[0].loc = self.value(first, ty)?;
            if let Some(second) = second {
                atomic.values[1].loc = self.value(second, ty)?;
            }
            if let Some(to) = to {
                atomic.to = Some(Value::new(self.to(to, ty)?, wide));
            }
            self.emit(Op::Atomic(Box::new(atomic)));
            return Ok(());
        }
        // Each element is atomic by itself. The old values wait until all operands are read.
        let mut results = Vec::new();
        for (at, element) in self.elements(first, count)?.iter().enumerate() {
            let mut atomic = atomic;
            atomic.values[0].loc = self.value(element, ty)?;
            atomic.address.offset = address.offset.wrapping_add(at as i64 * i64::from(bytes));
            atomic.align = if at == 0 { atomic.align } else { bytes };
            if let Some(to) = to {
                let old = Loc::register(self.temporary(ty)?.index);
                results.push((self.to(&self.elements(to, count)?[at], ty)?, old));
                atomic.to = Some(Value::new(old, false));
            }
            self.emit(Op::Atomic(Box::new(atomic)));
        }
        for (to, old) in results {
            self.emit(Op::Copy32(to, old));
        }
        Ok(())
    }

    pub(super) fn convert_address(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let generic = !s.take("to");
        let room = self.room(s)?;
        let ty = s.ty()?;
        let [to, from] = s.operands()?;
        if ty.bits != 64 {
            return Err(s.unknown());
        }
        // A variable's name stands for its address in its own space.
        let from = Value::new(self.value(from, ty)?, true);
        let to = Value::new(self.to(to, ty)?, true);
        self.emit(Op::Convert(ConvertAddress { to, from, room, generic }));
        Ok(())
    }

    fn room(&self, s: &mut Suffixes<'m, 'a>) -> Parsed<StateSpace> {
        Ok(match s.take_any(&SPACES) {
            Some("global" | "const") => StateSpace::Global,
            Some("shared" | "shared::cta" | "shared::cluster") => StateSpace::Shared,
            Some("local") => StateSpace::Local,
            // A function's parameters lie in its frame.
            Some("param" | "param::entry") if self.function.entry => StateSpace::Param,
            Some("param" | "param::entry") => StateSpace::Local,
            _ => return Err(s.unknown()),
        })
    }

    pub(super) fn in_space(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let window = match s.take_any(&SPACES) {
            Some("global") => Window::Global,
            Some("const") => Window::Const,
            Some("shared" | "shared::cta" | "shared::cluster") => Window::Shared,
            Some("local") => Window::Local,
            Some("param" | "param::entry") => Window::Param,
            _ => return Err(s.unknown()),
        };
        let [to, from] = s.operands()?;
        let from = Value::new(self.generic_value(from)?, true);
        let to = self.predicate_to(to)?;
        self.emit(Op::InSpace(to, from, window));
        Ok(())
    }

    /// `istypep`: false, because textures, samplers and surfaces do not exist here.
    pub(super) fn of_type(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        if s.take_any(&["texref", "samplerref", "surfref"]).is_none() {
            return Err(s.unknown());
        }
        let [to, from] = s.operands()?;
        self.value(from, B64)?;
        let to = self.predicate_to(to)?;
        self.emit(Op::Predicate(Logic::Copy, to, [Pred::FALSE, Pred::NONE]));
        Ok(())
    }

    /// A generic address in a register of 64 bits, or of 32 with zeros above.
    fn generic_value(&mut self, operand: &Operand<'a>) -> Parsed<Loc> {
        if let Operand::Name(name) = operand
            && let Symbol::Register(register) = self.symbol(name)?
            && register.class == Class::Narrow
        {
            let from = self.value(operand, Type::B32)?;
            let wide = Loc::register(self.temporary(B64)?.index);
            self.emit(Op::Widen(lanes!(|a, _, _| u64::from(a)), wide, [from, Loc::ZERO, Loc::ZERO]));
            return Ok(wide);
        }
        self.value(operand, B64)
    }
}
