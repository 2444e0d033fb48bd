//! Control flow: branches and loops as closures, and predication.

use super::{Asm, Operand, Pred, Reg, U32, Var};

impl Asm {
    /// Runs `body` if the condition holds.
    pub fn if_<'a>(&'a self, condition: Reg<'a, Pred>, body: impl FnOnce()) {
        let end = self.label("endif");
        self.branch(Some((false, condition)), &end);
        self.indented(body);
        self.place_label(&end);
    }

    /// Runs `body` if the condition holds, otherwise `otherwise`.
    pub fn if_else<'a>(&'a self, condition: Reg<'a, Pred>, body: impl FnOnce(), otherwise: impl FnOnce()) {
        let (other, end) = (self.label("else"), self.label("endif"));
        self.branch(Some((false, condition)), &other);
        self.indented(body);
        self.branch(None, &end);
        self.place_label(&other);
        self.indented(otherwise);
        self.place_label(&end);
    }

    /// Runs `body` with i = start, start + step, … below end; not at all unless start is below end.
    pub fn for_range<'a>(
        &'a self,
        start: impl Operand<'a, U32>,
        end: impl Operand<'a, U32>,
        step: u32,
        body: impl FnOnce(Reg<'a, U32>),
    ) {
        let i = self.var::<U32>(start);
        let (head, done) = (self.label("loop"), self.label("done"));
        let past = i.0.ge(end);
        self.branch(Some((true, past)), &done);
        self.place_label(&head);
        self.indented(|| body(i.0));
        i.add(step);
        let more = i.0.lt(end);
        self.branch(Some((true, more)), &head);
        self.place_label(&done);
    }

    /// Runs `body` while `condition` holds; it is evaluated before each round.
    pub fn while_<'a>(&'a self, condition: impl FnOnce() -> Reg<'a, Pred>, body: impl FnOnce()) {
        let (head, done) = (self.label("while"), self.label("done"));
        self.place_label(&head);
        let p = condition();
        self.branch(Some((false, p)), &done);
        self.indented(body);
        self.branch(None, &head);
        self.place_label(&done);
    }

    /// Puts a predicate on each instruction of `body` instead of branching around them: for a few instructions without
    /// control flow. Their results are undefined if the condition is false.
    pub fn when<'a>(&'a self, condition: Reg<'a, Pred>, body: impl FnOnce()) {
        let both = match self.guard() {
            None => condition.name(),
            Some(outer) => {
                // The conjunction is used everywhere, so it must be false if the outer guard is false. The condition
                // may have been computed under the outer guard and then has no value.
                let both = self.reg::<Pred>();
                self.pop_guard();
                self.emit("mov.pred", &[both.name(), outer.clone()]);
                self.push_guard(outer);
                self.emit("mov.pred", &[both.name(), condition.name()]);
                both.name()
            }
        };
        self.push_guard(both);
        body();
        self.pop_guard();
    }

    /// Exits the threads for which the condition holds.
    pub fn exit_if<'a>(&'a self, condition: Reg<'a, Pred>) {
        self.emit(&format!("@{} exit", condition.name()), &[]);
    }
}

impl<'a> Var<'a, U32> {
    /// self ← self + 1, wrapping to 0 at `period`: the index of a ring buffer.
    pub fn advance_ring(self, period: u32) {
        let asm = self.0.asm;
        let next = self + 1;
        let wrapped = next.ge(period);
        self.set(asm.select::<U32>(wrapped, 0, next));
    }
}
