//! `alloca`, `stacksave`, `stackrestore`: memory at the top of the thread's stack, freed when the function returns.

use super::body::Body;
use super::suffix::Suffixes;
use crate::machine::program::{Op, Value};
use crate::syntax::{Kind, Operand, Parsed, Statement, Type};

/// The alignment of `alloca` without one, in bytes.
const ALIGN: u64 = 8;

impl<'m, 'a> Body<'_, 'm, 'a> {
    /// Saves the top of the stack at the start of a function that calls `alloca`.
    pub(super) fn keep_top(&mut self, statements: &[Statement<'a>]) -> Parsed<()> {
        let takes = |s: &Statement<'_>| matches!(s, Statement::Instruction(i) if i.name == "alloca");
        if statements.iter().any(takes) {
            let top = Value::new(self.column(Type::B64)?, true);
            self.emit(Op::StackSave(top));
            self.top = Some(top);
        }
        Ok(())
    }

    /// Frees the function's stack memory at its end.
    pub(super) fn leave(&mut self) {
        if let Some(top) = self.top {
            self.emit(Op::StackRestore(top));
        }
        self.emit(Op::Return);
    }

    pub(super) fn stack(&mut self, name: &str, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let ty = s.ty()?;
        if ty.kind != Kind::Unsigned || !matches!(ty.bits, 32 | 64) {
            return Err(s.unknown());
        }
        let wide = ty.bits == 64;
        let op = match (name, s.all()) {
            ("stacksave", [to]) => Op::StackSave(Value::new(self.to(to, ty)?, wide)),
            ("stackrestore", [from]) => Op::StackRestore(Value::new(self.value(from, ty)?, wide)),
            ("alloca", [to, bytes, align @ ..]) => {
                let align = match align {
                    [] => ALIGN,
                    [Operand::Integer(align @ (8 | 16 | 32 | 64 | 128))] => *align as u64,
                    _ => return self.fail("alloca aligns to 8, 16, 32, 64 or 128 bytes"),
                };
                let bytes = Value::new(self.value(bytes, ty)?, wide);
                Op::Alloca(Value::new(self.to(to, ty)?, wide), bytes, align)
            }
            _ => return self.fail(format!("{name} with other operands than it takes")),
        };
        self.emit(op);
        Ok(())
    }
}
