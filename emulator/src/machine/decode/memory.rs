//! Loads, stores, atomics and address conversions (PTX ISA, "Data Movement and Conversion Instructions").

use super::body::Body;
use super::float::half;
use super::scope::Symbol;
use super::suffix::Suffixes;
use crate::machine::lanes::lanes;
use crate::machine::program::{
    Address, Atomic, AtomicOp, ConvertAddress, Loc, Logic, Op, Pred, RegisterFile, Transfer, Value,
};
use crate::space::StateSpace;
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

/// A state space by its name, as a memory that loads and stores reach; `.param` is the frame in a function, and the
/// parameters in a kernel. `None` for a space that is not supported.
fn memory_of(space: &str, entry: bool) -> Option<StateSpace> {
    Some(match space {
        "global" | "const" => StateSpace::Global,
        "shared" | "shared::cta" | "shared::cluster" => StateSpace::Shared,
        "local" => StateSpace::Local,
        "param" | "param::entry" | "param::func" if entry => StateSpace::Param,
        "param" | "param::entry" | "param::func" => StateSpace::Local,
        _ => return None,
    })
}

/// The atomic operation with this name on values of a type.
fn atomic_operation(name: &str, ty: Type) -> Option<AtomicOp> {
    let bits = ty.width();
    let integer = ty.integer() && !ty.pair && matches!(bits, 32 | 64);
    let untyped = ty.kind == Kind::Bits && matches!(bits, 32 | 64);
    let half = half(ty);
    Some(match name {
        "add" if integer && ty.kind != Kind::Bits => AtomicOp::Add(bits),
        "add" if ty.kind == Kind::Float && bits == 32 && !ty.pair => AtomicOp::Single,
        "add" if ty.kind == Kind::Float && bits == 64 => AtomicOp::Double,
        "add" => AtomicOp::Half(half?, ty.pair),
        "min" | "max" if half.is_some() => AtomicOp::HalfExtreme(half?, name == "max", ty.pair),
        "min" if integer && ty.signed() => AtomicOp::MinSigned(bits),
        "max" if integer && ty.signed() => AtomicOp::MaxSigned(bits),
        "min" if integer && ty.kind == Kind::Unsigned => AtomicOp::Min,
        "max" if integer && ty.kind == Kind::Unsigned => AtomicOp::Max,
        "inc" if ty.kind == Kind::Unsigned && bits == 32 => AtomicOp::Increment,
        "dec" if ty.kind == Kind::Unsigned && bits == 32 => AtomicOp::Decrement,
        "and" if untyped => AtomicOp::And,
        "or" if untyped => AtomicOp::Or,
        "xor" if untyped => AtomicOp::Xor,
        "exch" if untyped => AtomicOp::Exchange,
        "cas" if untyped || ty.kind == Kind::Bits && bits == 16 => AtomicOp::CompareSwap,
        _ => return None,
    })
}

/// Modifiers that loads and stores share.
struct Form {
    /// The named state space; `None` for generic addresses.
    space: Option<&'static str>,
    /// Whether `.volatile`, `.relaxed`, `.acquire` or `.release` is given.
    strong: bool,
    /// Whether `.acquire` or `.release` is given.
    orders: bool,
    /// Number of elements of the access.
    count: usize,
    ty: Type,
    /// Whether the last operand is a cache policy.
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
        let (ty, count) = if ty.width() == 128 { (Type::B64, 2) } else { (ty, count) };
        Ok(Form { space, strong, orders, count, ty, policy })
    }

    /// Parses the cache hints; true if a cache policy is among the operands.
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
        let named = match space {
            None => None,
            Some(space) => match memory_of(space, self.function.entry) {
                Some(space) => Some(space),
                None => return self.fail("this state space is not supported"),
            },
        };
        let name = match base {
            Base::Absolute => return Ok(Address::fixed(named, offset)),
            Base::Name(name) => name,
        };
        let symbol = self.symbol(name)?;
        // An access that names no space takes the variable's.
        let fits = |space: StateSpace| named.is_none_or(|named| named == space);
        let sum = |at: u64| offset.wrapping_add(at as i64);
        match symbol {
            Symbol::Register(register)
                if register.file == RegisterFile::Predicate || register.ty.width() < 32 =>
            {
                self.fail(format!("{name} cannot be an address"))
            }
            Symbol::Register(register) => {
                let wide = register.file == RegisterFile::Bits64;
                let address = Address::new(named, Loc::register(register.index), wide, offset);
                if !wide && address.may_be_global() {
                    return self.fail(format!("{name} has 32 bits; a global or generic address has 64"));
                }
                Ok(address)
            }
            // In a kernel, .param is its own parameters or the arguments of a call that it makes.
            Symbol::Frame(at) if fits(StateSpace::Local) || fits(StateSpace::Param) => {
                Ok(Address::in_frame(sum(at)))
            }
            Symbol::Local(at) if fits(StateSpace::Local) => {
                Ok(Address::fixed(Some(StateSpace::Local), sum(at)))
            }
            Symbol::Param(at) if named == Some(StateSpace::Param) => Ok(Address::fixed(named, sum(at))),
            Symbol::Shared(at) if fits(StateSpace::Shared) => {
                Ok(Address::fixed(Some(StateSpace::Shared), sum(at)))
            }
            Symbol::Dynamic(_) if fits(StateSpace::Shared) => {
                let base = self.address_of(symbol, offset, true)?;
                Ok(Address::new(Some(StateSpace::Shared), base, true, 0))
            }
            Symbol::Global(_) if fits(StateSpace::Global) => {
                let base = self.address_of(symbol, offset, true)?;
                Ok(Address::new(Some(StateSpace::Global), base, true, 0))
            }
            _ => self.fail(format!("{name} is not in the state space of this access")),
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
                self.value(last, Type::B64)?;
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
        self.builder.ordered |= form.strong && address.may_be_global();
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
        if address.space == Some(StateSpace::Param) {
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
        let Some(op) = atomic_operation(name, ty) else { return Err(s.unknown()) };
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
        let global = address.may_be_global();
        if !global && (vector || address.space != Some(StateSpace::Shared)) {
            return Err(s.unknown());
        }
        let order_shows = to.is_some() || !op.commutes();
        self.builder.ordered |= global && order_shows;
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
                let old = self.column(ty)?;
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
        let space = s.take_any(&SPACES).filter(|space| *space != "param::func");
        let Some(space) = space.and_then(|space| memory_of(space, self.function.entry)) else {
            return Err(s.unknown());
        };
        let ty = s.ty()?;
        let [to, from] = s.operands()?;
        if ty.bits != 64 {
            return Err(s.unknown());
        }
        // A variable's name means its address in its own space.
        let from = Value::new(self.value(from, ty)?, true);
        let to = Value::new(self.to(to, ty)?, true);
        self.emit(Op::ConvertAddress(ConvertAddress { to, from, space, generic }));
        Ok(())
    }

    pub(super) fn in_space(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let space = match s.take_any(&SPACES) {
            Some("global") => StateSpace::Global,
            Some("const") => StateSpace::Const,
            Some("shared" | "shared::cta" | "shared::cluster") => StateSpace::Shared,
            Some("local") => StateSpace::Local,
            Some("param" | "param::entry") => StateSpace::Param,
            _ => return Err(s.unknown()),
        };
        let [to, from] = s.operands()?;
        let from = Value::new(self.generic_value(from)?, true);
        let to = self.predicate_to(to)?;
        self.emit(Op::InSpace(to, from, space));
        Ok(())
    }

    /// `istypep`: false, because textures, samplers and surfaces are not supported.
    pub(super) fn of_type(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        if s.take_any(&["texref", "samplerref", "surfref"]).is_none() {
            return Err(s.unknown());
        }
        let [to, from] = s.operands()?;
        self.value(from, Type::B64)?;
        let to = self.predicate_to(to)?;
        self.emit(Op::Predicate(Logic::Copy, to, [Pred::FALSE, Pred::NONE]));
        Ok(())
    }

    /// A generic address in a register of 64 bits, or of 32 with zeros above.
    fn generic_value(&mut self, operand: &Operand<'a>) -> Parsed<Loc> {
        if let Operand::Name(name) = operand
            && let Symbol::Register(register) = self.symbol(name)?
            && register.file == RegisterFile::Bits32
        {
            let from = self.value(operand, Type::B32)?;
            let wide = self.column(Type::B64)?;
            self.emit(Op::Widen(lanes!(|a, _, _| u64::from(a)), wide, [from, Loc::ZERO, Loc::ZERO]));
            return Ok(wide);
        }
        self.value(operand, Type::B64)
    }
}
