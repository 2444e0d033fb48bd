//! `cp.async`, `ldmatrix`, `stmatrix`, `movmatrix`.

use super::body::Body;
use super::scope::Symbol;
use super::suffix::Suffixes;
use crate::machine::program::{AsyncCopy, Matrices, Matrix, Op, Pred, RegisterFile};
use crate::syntax::{Operand, Parsed, Type};

impl<'m, 'a> Body<'_, 'm, 'a> {
    pub(super) fn matrix(&mut self, name: &str, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let matrix = match name {
            "ldmatrix" => self.load_matrix(s)?,
            "stmatrix" => self.store_matrix(s)?,
            _ => {
                let form =
                    (s.take("sync"), s.take("aligned"), s.take("m8n8"), s.take("trans"), s.take("b16"));
                if form != (true, true, true, true, true) {
                    return Err(s.unknown());
                }
                let [to, from] = s.operands()?;
                let from = self.value(from, Type::B32)?;
                Matrix::Transpose(self.to(to, Type::B32)?, from)
            }
        };
        self.emit(Op::Matrix(Box::new(matrix)));
        Ok(())
    }

    /// `cp.async` and its groups.
    pub(super) fn async_copy(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let copy = self.async_copy_form(s)?;
        self.emit(Op::AsyncCopy(Box::new(copy)));
        Ok(())
    }

    fn async_copy_form(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<AsyncCopy> {
        if !s.take("async") {
            return Err(s.unknown());
        }
        if s.take("commit_group") {
            let [] = s.operands()?;
            return Ok(AsyncCopy::Commit);
        }
        if s.take("wait_all") {
            let [] = s.operands()?;
            return Ok(AsyncCopy::WaitAll);
        }
        if s.take("wait_group") {
            let [groups] = s.operands()?;
            let Operand::Integer(groups @ 0..) = *groups else {
                return self.fail("expected a number of groups");
            };
            return Ok(AsyncCopy::Wait(u32::try_from(groups).unwrap_or(u32::MAX)));
        }
        let level = s.take_any(&["ca", "cg"]);
        let policy = s.take("L2::cache_hint");
        s.take_any(&["L2::64B", "L2::128B", "L2::256B"]);
        let spaces = (s.take_any(&["shared", "shared::cta"]).is_some(), s.take("global"));
        if level.is_none() || spaces != (true, true) {
            return Err(s.unknown());
        }
        let mut operands = s.all();
        if policy && let [rest @ .., last] = operands {
            self.value(last, Type::B64)?;
            operands = rest;
        }
        let (to, from, bytes, last) = match operands {
            [to, from, bytes] => (to, from, bytes, None),
            [to, from, bytes, last] => (to, from, bytes, Some(last)),
            _ => return self.fail("cp.async takes two addresses and a size"),
        };
        let bytes = match (bytes, level) {
            (Operand::Integer(16), _) => 16,
            (Operand::Integer(bytes @ (4 | 8)), Some("ca")) => *bytes as u32,
            _ => return self.fail("cp.async copies 16 bytes, or with .ca also 4 or 8"),
        };
        let to = self.address(to, Some("shared"))?;
        let from = self.address(from, Some("global"))?;
        let (mut source_bytes, mut ignore_source) = (self.builder.constant32(bytes), Pred::NONE);
        match last {
            Some(Operand::Not(_)) => ignore_source = self.predicate(&operands[3])?,
            Some(last @ Operand::Name(name)) => match self.symbol(name)? {
                Symbol::Register(r) if r.file == RegisterFile::Predicate => {
                    ignore_source = self.predicate(last)?;
                }
                _ => source_bytes = self.value(last, Type::B32)?,
            },
            Some(last) => source_bytes = self.value(last, Type::B32)?,
            None => {}
        }
        Ok(AsyncCopy::Copy { to, from, bytes, source_bytes, ignore_source })
    }

    /// Number of matrices, whether they are transposed, and the state space.
    fn matrices(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<(usize, bool, Option<&'static str>)> {
        let form = (s.take("sync"), s.take("aligned"), s.take("m8n8"));
        let count = match s.take_any(&["x1", "x2", "x4"]) {
            Some("x1") => 1,
            Some("x2") => 2,
            Some(_) => 4,
            None => return Err(s.unknown()),
        };
        let transposed = s.take("trans");
        let space = s.take_any(&["shared", "shared::cta"]);
        if form != (true, true, true) || !s.take("b16") {
            return Err(s.unknown());
        }
        Ok((count, transposed, space))
    }

    fn load_matrix(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<Matrix> {
        let (count, transposed, space) = self.matrices(s)?;
        let [to, from] = s.operands()?;
        let registers = self.fragments(to, count, Type::B32)?;
        let address = self.address(from, space)?;
        if !address.may_be_shared() {
            return Err(s.unknown());
        }
        Ok(Matrix::Load(Matrices { count, transposed, registers, address }))
    }

    fn store_matrix(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<Matrix> {
        let (count, transposed, space) = self.matrices(s)?;
        let [to, from] = s.operands()?;
        let registers = self.sources(from, count, Type::B32)?;
        let address = self.address(to, space)?;
        if !address.may_be_shared() {
            return Err(s.unknown());
        }
        Ok(Matrix::Store(Matrices { count, transposed, registers, address }))
    }
}
