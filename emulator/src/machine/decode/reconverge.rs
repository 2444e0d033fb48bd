//! Reconvergence points of divergent lanes: the immediate post-dominator of each branch.
//!
//! Algorithm: Cooper, Harvey, Kennedy, "A Simple, Fast Dominance Algorithm", 2001, on the reversed graph. Returns and exits
//! are edges to one virtual exit.

use crate::machine::program::{Op, Reconvergence, Routine};
use crate::syntax::{ParseError, Parsed};

/// Replaces label numbers by instruction numbers, and computes the reconvergence point of each branch.
pub(super) fn resolve(routine: &mut Routine, targets: &[Option<u32>]) -> Parsed<()> {
    let find = |label: u32, line: u32| {
        targets
            .get(label as usize)
            .copied()
            .flatten()
            .ok_or_else(|| ParseError::new(line, "a jump to nowhere"))
    };
    for (inst, span) in routine.code.iter_mut().zip(&routine.spans) {
        if let Op::Branch(target, _) = &mut inst.op {
            *target = find(*target, span.line)?;
        }
    }
    let line = routine.line;
    for target in routine.tables.iter_mut().flatten() {
        *target = find(*target, line)?;
    }
    let joins = joins(routine);
    for (inst, found) in routine.code.iter_mut().zip(joins) {
        if let Op::Branch(_, join) | Op::BranchTable(_, _, join) = &mut inst.op {
            *join = found;
        }
    }
    Ok(())
}

/// The graph of basic blocks; the last node is the virtual exit.
struct Graph {
    /// First instruction of each block.
    starts: Vec<u32>,
    /// Block of each instruction.
    block: Vec<u32>,
    successors: Vec<Vec<u32>>,
}

fn graph(routine: &Routine) -> Graph {
    let code = &routine.code;
    let mut leader = vec![false; code.len()];
    leader[0] = true;
    for (at, inst) in code.iter().enumerate() {
        let ends = match &inst.op {
            Op::Branch(target, _) => {
                leader[*target as usize] = true;
                true
            }
            Op::BranchTable(_, table, _) => {
                for &target in &routine.tables[*table as usize] {
                    leader[target as usize] = true;
                }
                true
            }
            Op::Return | Op::Exit | Op::Trap => true,
            _ => false,
        };
        if ends && at + 1 < code.len() {
            leader[at + 1] = true;
        }
    }
    let mut starts = Vec::new();
    let mut block = Vec::with_capacity(code.len());
    for (at, first) in leader.iter().enumerate() {
        if *first {
            starts.push(at as u32);
        }
        block.push(starts.len() as u32 - 1);
    }
    let exit = starts.len() as u32;
    let mut successors = vec![Vec::new(); starts.len() + 1];
    for (number, out) in successors.iter_mut().take(starts.len()).enumerate() {
        let last = starts.get(number + 1).map_or(code.len(), |&next| next as usize) - 1;
        let inst = &code[last];
        let falls = match &inst.op {
            Op::Branch(target, _) => {
                out.push(block[*target as usize]);
                !inst.guard.is_none()
            }
            Op::BranchTable(_, table, _) => {
                out.extend(routine.tables[*table as usize].iter().map(|&t| block[t as usize]));
                !inst.guard.is_none()
            }
            Op::Return | Op::Exit | Op::Trap => {
                out.push(exit);
                !inst.guard.is_none()
            }
            _ => true,
        };
        if falls {
            out.push(if last + 1 < code.len() { block[last + 1] } else { exit });
        }
    }
    Graph { starts, block, successors }
}

/// For each instruction, the reconvergence point of its block's lanes.
fn joins(routine: &Routine) -> Vec<Reconvergence> {
    if routine.code.is_empty() {
        return Vec::new();
    }
    let graph = graph(routine);
    let nodes = graph.successors.len();
    let exit = nodes - 1;
    let mut predecessors = vec![Vec::new(); nodes];
    for (from, list) in graph.successors.iter().enumerate() {
        for &to in list {
            predecessors[to as usize].push(from as u32);
        }
    }
    // Nodes in postorder of the reversed graph, by an explicit stack.
    const UNSEEN: u32 = u32::MAX;
    let mut number = vec![UNSEEN; nodes];
    let mut order = Vec::with_capacity(nodes);
    let mut seen = vec![false; nodes];
    let mut stack = vec![(exit, 0)];
    seen[exit] = true;
    while let Some((node, next)) = stack.pop() {
        match predecessors[node].get(next) {
            Some(&other) => {
                stack.push((node, next + 1));
                if !std::mem::replace(&mut seen[other as usize], true) {
                    stack.push((other as usize, 0));
                }
            }
            None => {
                number[node] = order.len() as u32;
                order.push(node);
            }
        }
    }
    let mut dominator = vec![UNSEEN; nodes];
    dominator[exit] = exit as u32;
    let mut changed = true;
    while changed {
        changed = false;
        for &node in order.iter().rev().filter(|&&node| node != exit) {
            let mut best = UNSEEN;
            for &other in &graph.successors[node] {
                if dominator[other as usize] == UNSEEN {
                    continue;
                }
                best = if best == UNSEEN { other } else { meet(&dominator, &number, best, other) };
            }
            if best != UNSEEN && dominator[node] != best {
                dominator[node] = best;
                changed = true;
            }
        }
    }
    let join = |block: u32| match dominator[block as usize] {
        UNSEEN => Reconvergence::END,
        node if node as usize == exit => Reconvergence::END,
        node => Reconvergence(graph.starts[node as usize]),
    };
    graph.block.iter().map(|&block| join(block)).collect()
}

/// The nearest node that both reach on their ways to the exit.
fn meet(dominator: &[u32], number: &[u32], mut a: u32, mut b: u32) -> u32 {
    while a != b {
        while number[a as usize] < number[b as usize] {
            a = dominator[a as usize];
        }
        while number[b as usize] < number[a as usize] {
            b = dominator[b as usize];
        }
    }
    a
}
