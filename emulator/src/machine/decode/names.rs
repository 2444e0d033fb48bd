//! The names of a module: functions and variables, and which functions have their address taken.

use crate::space::StateSpace;
use std::collections::HashMap;

use crate::syntax::{Instruction, Operand, ParseError, Parsed, Statement, Target, Unit};

/// Most bytes of a thread's local variables, in one frame or outside functions: CUDA's limit per thread.
pub(super) const LOCAL_BYTES: u64 = 512 << 10;

/// Functions and variables of a module, by name.
pub(crate) struct ModuleNames<'m, 'a> {
    pub unit: &'m Unit<'a>,
    /// Functions by name; definitions win over declarations.
    pub functions: HashMap<&'a str, usize>,
    /// Variables outside functions by name.
    pub variables: HashMap<&'a str, usize>,
    /// The offset in local memory of each local variable outside functions.
    pub locals: HashMap<usize, u64>,
    /// Total size of local variables outside functions in bytes.
    pub local_bytes: u64,
    /// Size of the largest variable that a call can pass, in bytes.
    pub longest_argument: u64,
    /// Functions whose address is taken somewhere in the module.
    pub address_taken: Vec<usize>,
}

impl<'m, 'a> ModuleNames<'m, 'a> {
    /// Collects the names. A name that is defined twice is an error.
    pub fn new(unit: &'m Unit<'a>) -> Parsed<Self> {
        let mut functions: HashMap<&str, usize> = HashMap::new();
        for (index, function) in unit.functions.iter().enumerate() {
            match functions.get(function.name).map(|&i| &unit.functions[i]) {
                Some(other) if other.body.is_some() && function.body.is_some() => {
                    return Err(ParseError::new(
                        function.line,
                        format!("{} is defined twice", function.name),
                    ));
                }
                Some(other) if other.body.is_some() => {}
                _ => {
                    functions.insert(function.name, index);
                }
            }
        }
        for alias in &unit.aliases {
            let defined = |name: &str| functions.get(name).map(|&f| (f, unit.functions[f].body.is_some()));
            match (defined(alias.name), defined(alias.target)) {
                (Some((_, false)), Some((target, true))) => functions.insert(alias.name, target),
                (Some((_, false)), _) => {
                    let message = format!("{} is not defined", alias.target);
                    return Err(ParseError::new(alias.line, message));
                }
                _ => {
                    let message = format!("{} must be a function that is declared only", alias.name);
                    return Err(ParseError::new(alias.line, message));
                }
            };
        }
        let mut variables: HashMap<&str, usize> = HashMap::new();
        let (mut locals, mut local_bytes) = (HashMap::new(), 0u64);
        for (index, variable) in unit.variables.iter().enumerate() {
            if variable.inner {
                continue;
            }
            if variable.space == StateSpace::Local {
                let offset = local_bytes.next_multiple_of(variable.align.max(1));
                locals.insert(index, offset);
                local_bytes = offset.saturating_add(variable.bytes);
                if local_bytes > LOCAL_BYTES {
                    let message =
                        format!("{local_bytes} bytes of local variables; at most {LOCAL_BYTES} are possible");
                    return Err(ParseError::new(variable.line, message));
                }
            }
            let before = variables.insert(variable.name, index).map(|i| &unit.variables[i]);
            if before.is_some_and(|b| !b.external && !variable.external) {
                return Err(ParseError::new(variable.line, format!("{} is defined twice", variable.name)));
            }
        }
        let address_taken = address_taken(unit, &functions);
        let bodies = unit.functions.iter().flat_map(|f| &f.body).flatten();
        let arguments = bodies.filter_map(|s| match s {
            Statement::Variable(v) if v.space == StateSpace::Param => Some(v.bytes),
            _ => None,
        });
        let longest_argument = arguments.max().unwrap_or(0);
        let local_bytes = local_bytes.next_multiple_of(16);
        Ok(Self { unit, functions, variables, locals, local_bytes, longest_argument, address_taken })
    }
}

/// The functions with a body whose names are used as addresses: in operands and in initial values.
fn address_taken(unit: &Unit<'_>, functions: &HashMap<&str, usize>) -> Vec<usize> {
    fn names<'a>(operands: &[Operand<'a>], found: &mut impl FnMut(&'a str)) {
        for operand in operands {
            match operand {
                Operand::Name(name) | Operand::Offset(name, _) => found(name),
                Operand::Vector(elements) => names(elements, found),
                _ => {}
            }
        }
    }
    let mut out = Vec::new();
    let mut found = |name: &str| {
        if let Some(&function) = functions.get(name)
            && !unit.functions[function].entry
            && unit.functions[function].body.is_some()
        {
            out.push(function);
        }
    };
    for statement in unit.functions.iter().flat_map(|f| &f.body).flatten() {
        if let Statement::Instruction(Instruction { operands, call, .. }) = statement {
            names(operands, &mut found);
            names(call.as_ref().map_or(&[], |call| &call.arguments), &mut found);
        }
    }
    for patch in unit.variables.iter().flat_map(|v| &v.initial).flat_map(|i| &i.patches) {
        if let Target::Name(name) = patch.target {
            found(name);
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}
