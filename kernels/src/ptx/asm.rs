//! The assembler's state, and the conversion to text.

use std::{cell::RefCell, fmt::Write};

use super::{F32, Global, InMemory, Operand, Pred, Reg, S32, Shared, Type, U32, U64, types::Class};
use crate::{Kernel, Parameter, Target, Work};

/// Most static shared memory per block in bytes (CUDA C++ Programming Guide, compute capabilities); larger kernels use
/// dynamic memory.
pub(crate) const STATIC_SHARED_LIMIT: u32 = 48 * 1024;

/// Alignment of each shared array in bytes, as swizzles and bulk copies require.
const SHARED_ALIGN: u32 = 128;

/// A kernel's name and launch configuration.
#[derive(Debug, Clone)]
pub struct Launch {
    name: String,
    family: &'static str,
    target: Target,
    grid: [u32; 3],
    block: [u32; 3],
    resident: Option<u32>,
}

impl Launch {
    /// A launch of one block of one thread; the methods change it. `name` must be a PTX identifier that is unique to
    /// the text.
    pub fn new(family: &'static str, name: impl Into<String>, target: Target) -> Self {
        Self { name: name.into(), family, target, grid: [1; 3], block: [1; 3], resident: None }
    }

    /// `count` threads in blocks of `block` along x; at least one block.
    pub fn threads(self, block: u32, count: u64) -> Self {
        let blocks = count.div_ceil(u64::from(block)).max(1);
        let grid = u32::try_from(blocks).unwrap_or(u32::MAX);
        self.grid([grid, 1, 1]).block([block, 1, 1])
    }

    /// Blocks along x, y, z.
    pub fn grid(self, grid: [u32; 3]) -> Self {
        Self { grid, ..self }
    }

    /// Threads of a block along x, y, z.
    pub fn block(self, block: [u32; 3]) -> Self {
        Self { block, ..self }
    }

    /// Minimum number of resident blocks per multiprocessor; the compiler limits registers accordingly.
    pub fn resident(self, blocks: u32) -> Self {
        Self { resident: Some(blocks), ..self }
    }
}

/// The assembler: kernels are closures that take a reference to it.
pub struct Asm {
    state: RefCell<State>,
    target: Target,
}

#[derive(Default)]
struct State {
    body: String,
    indent: usize,
    registers: [u32; Class::ALL.len()],
    labels: u32,
    guards: Vec<String>,
    parameters: Vec<Parameter>,
    shared: u32,
}

impl Asm {
    /// Assembles a kernel: `summary` is its formula in one line, `work` its least memory traffic and arithmetic.
    ///
    /// # Panics
    /// If the text is not ASCII: a programming error in a summary or a step.
    pub fn kernel(launch: Launch, work: Work, summary: &str, body: impl FnOnce(&Asm)) -> Kernel {
        let asm = Asm { state: RefCell::new(State { indent: 1, ..State::default() }), target: launch.target };
        body(&asm);
        asm.emit("ret", &[]);
        asm.state.into_inner().finish(launch, work, summary)
    }

    /// The instruction set of the kernel.
    pub fn target(&self) -> Target {
        self.target
    }

    pub(crate) fn reg<T: Type>(&self) -> Reg<'_, T> {
        let mut state = self.state.borrow_mut();
        let count = &mut state.registers[T::CLASS as usize];
        let id = *count;
        *count += 1;
        drop(state);
        Reg::new(self, id)
    }

    pub(crate) fn label(&self, what: &str) -> String {
        let mut state = self.state.borrow_mut();
        state.labels += 1;
        format!("${what}_{}", state.labels)
    }

    /// Writes an instruction under the current guards.
    pub(crate) fn emit(&self, mnemonic: &str, operands: &[String]) {
        let mut state = self.state.borrow_mut();
        let indent = "    ".repeat(state.indent);
        let guard = state.guards.last().map(|p| format!("@{p} ")).unwrap_or_default();
        let head = format!("{indent}{guard}{mnemonic}");
        let line = if operands.is_empty() { head } else { format!("{head:<32} {}", operands.join(", ")) };
        let _ = writeln!(state.body, "{line};");
    }

    /// Writes a branch to `label`, taken if the condition has this value; unconditional without one.
    ///
    /// # Panics
    /// Under [`Asm::when`], whose instructions already carry a predicate: a programming error of the kernel.
    pub(crate) fn branch(&self, condition: Option<(bool, Reg<'_, Pred>)>, label: &str) {
        assert!(self.guard().is_none(), "control flow inside of `when`: use `if_`");
        let guard = match condition {
            None => String::new(),
            Some((true, p)) => format!("@{} ", p.name()),
            Some((false, p)) => format!("@!{} ", p.name()),
        };
        self.emit(&format!("{guard}bra"), &[label.into()]);
    }

    pub(crate) fn place_label(&self, label: &str) {
        let mut state = self.state.borrow_mut();
        let indent = "    ".repeat(state.indent.saturating_sub(1));
        let _ = writeln!(state.body, "{indent}{label}:");
    }

    /// Runs `body` with its text indented by one more level.
    pub(crate) fn indented<R>(&self, body: impl FnOnce() -> R) -> R {
        self.state.borrow_mut().indent += 1;
        let result = body();
        self.state.borrow_mut().indent -= 1;
        result
    }

    pub(crate) fn push_guard(&self, guard: String) {
        self.state.borrow_mut().guards.push(guard);
    }

    pub(crate) fn pop_guard(&self) {
        self.state.borrow_mut().guards.pop();
    }

    pub(crate) fn guard(&self) -> Option<String> {
        self.state.borrow().guards.last().cloned()
    }

    /// A comment that names the next step, in ASCII.
    pub fn step(&self, text: &str) {
        let mut state = self.state.borrow_mut();
        let indent = "    ".repeat(state.indent);
        for line in text.lines() {
            let _ = writeln!(state.body, "\n{indent}// {line}");
        }
    }

    fn parameter<T: Type>(&self, name: &str) -> Reg<'_, T> {
        let parameter = Parameter { name: name.into(), ty: T::NAME, bytes: T::BYTES as usize };
        self.state.borrow_mut().parameters.push(parameter);
        let value = self.reg::<T>();
        self.emit(&format!("ld.param.{}", T::BITS), &[value.name(), format!("[{name}]")]);
        value
    }

    /// A parameter that points into global memory.
    pub fn pointer<T: InMemory>(&self, name: &str) -> Global<'_, T> {
        let generic = self.parameter::<U64>(name);
        let global = self.reg::<U64>();
        self.emit("cvta.to.global.u64", &[global.name(), generic.name()]);
        Global::at_register(global)
    }

    /// A parameter of type u32.
    pub fn parameter_u32(&self, name: &str) -> Reg<'_, U32> {
        self.parameter(name)
    }

    /// A parameter of type s32.
    pub fn parameter_s32(&self, name: &str) -> Reg<'_, S32> {
        self.parameter(name)
    }

    /// A parameter of type f32.
    pub fn parameter_f32(&self, name: &str) -> Reg<'_, F32> {
        self.parameter(name)
    }

    /// `len` elements of shared memory, aligned to 128 bytes. A block's shared memory is static up to 48 KiB and
    /// dynamic above.
    pub fn shared<T: InMemory>(&self, len: u32) -> Shared<'_, T> {
        let mut state = self.state.borrow_mut();
        let offset = state.shared.next_multiple_of(SHARED_ALIGN);
        state.shared = offset + len * T::BYTES;
        drop(state);
        let base = self.reg::<U32>();
        self.emit("mov.u32", &[base.name(), "shared".into()]);
        Shared::<T>::at_register(base).plus_bytes(i64::from(offset))
    }

    fn special(&self, name: &str) -> Reg<'_, U32> {
        let value = self.reg::<U32>();
        self.emit("mov.u32", &[value.name(), name.into()]);
        value
    }

    /// The thread's coordinate in its block along `axis` (0, 1, 2 for x, y, z).
    pub fn thread(&self, axis: usize) -> Reg<'_, U32> {
        self.special(["%tid.x", "%tid.y", "%tid.z"][axis])
    }

    /// The block's coordinate in the grid along `axis`.
    pub fn block(&self, axis: usize) -> Reg<'_, U32> {
        self.special(["%ctaid.x", "%ctaid.y", "%ctaid.z"][axis])
    }

    /// Number of threads of a block along `axis`.
    pub fn block_size(&self, axis: usize) -> Reg<'_, U32> {
        self.special(["%ntid.x", "%ntid.y", "%ntid.z"][axis])
    }

    /// Number of blocks of the grid along `axis`.
    pub fn grid_size(&self, axis: usize) -> Reg<'_, U32> {
        self.special(["%nctaid.x", "%nctaid.y", "%nctaid.z"][axis])
    }

    /// Index of the lane in its warp, 0 to 31.
    pub fn lane(&self) -> Reg<'_, U32> {
        self.special("%laneid")
    }

    /// Index of the thread along x in the whole grid.
    pub fn global_thread(&self) -> Reg<'_, U32> {
        self.block(0).mad(self.block_size(0), self.thread(0))
    }

    /// Writes `op d, a, b` with a new destination register.
    pub(crate) fn make<'a, D: Type>(&'a self, mnemonic: &str, operands: &[String]) -> Reg<'a, D> {
        let d = self.reg::<D>();
        let mut all = vec![d.name()];
        all.extend_from_slice(operands);
        self.emit(mnemonic, &all);
        d
    }

    /// x if the condition holds, y otherwise.
    pub fn select<'a, T: Type>(
        &'a self,
        condition: Reg<'a, Pred>,
        x: impl Operand<'a, T>,
        y: impl Operand<'a, T>,
    ) -> Reg<'a, T> {
        let suffix = if T::BITS.starts_with('f') {
            T::BITS
        } else {
            ["b16", "b32", "b64"][T::BYTES.trailing_zeros() as usize - 1]
        };
        self.make(&format!("selp.{suffix}"), &[x.text(), y.text(), condition.name()])
    }
}

impl State {
    fn finish(self, launch: Launch, work: Work, summary: &str) -> Kernel {
        let Launch { name, family, target, grid, block, resident } = launch;
        let dynamic = self.shared > STATIC_SHARED_LIMIT;
        let (shared, static_shared) = if dynamic { (self.shared, 0) } else { (0, self.shared) };
        let mut text = String::new();
        let by = |size: [u32; 3]| format!("{}x{}x{}", size[0], size[1], size[2]);
        let _ = writeln!(text, "// {name}: {summary}");
        let _ = writeln!(
            text,
            "// grid {}, block {}, {} bytes of shared memory; must move {} bytes and do {} operations\n",
            by(grid),
            by(block),
            self.shared,
            work.bytes,
            work.operations
        );
        let _ = writeln!(text, ".version {}\n.target {target}\n.address_size 64\n", target.version());
        if dynamic {
            let _ = writeln!(text, ".extern .shared .align {SHARED_ALIGN} .b8 shared[];\n");
        }
        let _ = writeln!(text, ".visible .entry {name}(");
        let parameters: Vec<_> =
            self.parameters.iter().map(|p| format!("    .param .{} {}", p.ty, p.name)).collect();
        let _ = writeln!(text, "{}\n)", parameters.join(",\n"));
        let _ = writeln!(text, ".reqntid {}, {}, {}", block[0], block[1], block[2]);
        if let Some(blocks) = resident {
            let _ = writeln!(text, ".minnctapersm {blocks}");
        }
        text += "{\n";
        for class in Class::ALL {
            let count = self.registers[class as usize];
            if count > 0 {
                let _ = writeln!(text, "    .reg {:<6} {}<{count}>;", class.declaration(), class.prefix());
            }
        }
        if static_shared > 0 {
            let _ = writeln!(text, "    .shared .align {SHARED_ALIGN} .b8 shared[{static_shared}];");
        }
        let _ = writeln!(text, "\n{}}}", self.body);
        // The compilers of CUDA 12.8 to 13.0 refuse any other character, in comments too.
        let foreign = text.lines().find(|line| !line.is_ascii());
        assert!(foreign.is_none(), "{name}: PTX text must be ASCII: {}", foreign.unwrap_or_default());
        Kernel {
            name,
            family,
            target,
            ptx: text,
            grid,
            block,
            shared,
            static_shared,
            parameters: self.parameters,
            work,
        }
    }
}
