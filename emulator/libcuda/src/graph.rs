//! Graphs: work with its dependencies, written down by hand or by a capture, and launched as a whole.

use std::{collections::BTreeSet, fmt};

use crate::{
    code::{Outcome, fail},
    handle::Handle,
    schedule::WorkId,
    work::Work,
};

/// What a node does.
#[derive(Debug, Clone)]
pub enum Node {
    /// Work for the device, or nothing.
    Work(Work),
    Record(Handle),
    /// Waits for an event.
    Wait(Handle),
    /// All nodes of another graph.
    Child(Graph),
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Work(Work::Launch(launch)) => write!(f, "the launch of {launch}"),
            Self::Work(Work::Copy(copy)) => write!(f, "{}", copy.call),
            Self::Work(Work::Fill(_)) => f.write_str("a fill"),
            Self::Work(Work::Host(_)) => f.write_str("a host function"),
            Self::Work(_) => f.write_str("an empty node"),
            Self::Record(_) => f.write_str("an event's record"),
            Self::Wait(_) => f.write_str("a wait for an event"),
            Self::Child(_) => f.write_str("a graph"),
        }
    }
}

/// Marks a node's handle, with which programs change the node in an executable graph.
#[derive(Debug, Clone, Copy, Default)]
pub struct NodeName;

#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// In the order in which they were added.
    pub nodes: Vec<Node>,
    /// For each node, the nodes that it depends on.
    pub after: Vec<Vec<usize>>,
    /// The handle of each node.
    pub names: Vec<Handle>,
}

/// A graph that can be launched.
#[derive(Debug)]
pub struct GraphExec {
    pub graph: Graph,
    /// An order that keeps all dependencies.
    pub order: Vec<usize>,
    /// The last piece of work of its last launch: it does not run beside itself.
    pub last: Option<WorkId>,
}

impl Graph {
    /// Adds a node after others; returns its index.
    pub fn add(&mut self, name: Handle, node: Node, after: Vec<usize>) -> usize {
        self.nodes.push(node);
        self.after.push(after);
        self.names.push(name);
        self.nodes.len() - 1
    }

    /// The index of a node's handle.
    pub fn index(&self, name: Handle) -> Outcome<usize> {
        match self.names.iter().position(|&own| own == name) {
            Some(index) => Ok(index),
            None => fail!(INVALID_VALUE, "the node {name:#x} is not one of this graph"),
        }
    }

    /// Makes a node come after another one.
    pub fn depend(&mut self, from: Handle, to: Handle) -> Outcome {
        let (from, to) = (self.index(from)?, self.index(to)?);
        if from == to || self.after[to].contains(&from) {
            return fail!(INVALID_VALUE, "a node cannot depend on itself, nor twice on another");
        }
        self.after[to].push(from);
        Ok(())
    }

    /// Whether all launches have blocks, those of child graphs too.
    pub fn check_grids(&self) -> Outcome {
        self.nodes.iter().try_for_each(|node| match node {
            Node::Work(Work::Launch(launch)) => launch.check_grid(),
            Node::Child(graph) => graph.check_grids(),
            _ => Ok(()),
        })
    }

    /// Nodes, and all that they come after.
    pub fn ancestors(&self, nodes: &[usize]) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut left: Vec<usize> = nodes.to_vec();
        while let Some(node) = left.pop() {
            if found.insert(node) {
                left.extend(&self.after[node]);
            }
        }
        found
    }

    /// An order that keeps all dependencies.
    pub fn order(&self) -> Outcome<Vec<usize>> {
        let mut waits: Vec<usize> = self.after.iter().map(Vec::len).collect();
        let mut followers: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (node, after) in self.after.iter().enumerate() {
            after.iter().for_each(|&before| followers[before].push(node));
        }
        let mut ready: BTreeSet<usize> = (0..waits.len()).filter(|&node| waits[node] == 0).collect();
        let mut order = Vec::new();
        while let Some(node) = ready.pop_first() {
            order.push(node);
            for &next in &followers[node] {
                waits[next] -= 1;
                if waits[next] == 0 {
                    ready.insert(next);
                }
            }
        }
        match order.len() == self.nodes.len() {
            true => Ok(order),
            false => fail!(INVALID_VALUE, "the graph has a circle of dependencies"),
        }
    }
}

impl GraphExec {
    /// Makes a graph ready to be launched; it does not need the graph any more.
    pub fn new(graph: &Graph) -> Outcome<Self> {
        let order = graph.order()?;
        Ok(Self { graph: graph.clone(), order, last: None })
    }

    /// Replaces what a node does.
    pub fn set(&mut self, name: Handle, node: Node) -> Outcome {
        let index = self.graph.index(name)?;
        let same = std::mem::discriminant(&self.graph.nodes[index]) == std::mem::discriminant(&node);
        match (&self.graph.nodes[index], &node) {
            (Node::Work(old), Node::Work(new))
                if std::mem::discriminant(old) != std::mem::discriminant(new) =>
            {
                fail!(INVALID_VALUE, "the node does something else and cannot become this")
            }
            _ if !same => fail!(INVALID_VALUE, "the node does something else and cannot become this"),
            _ => {
                self.graph.nodes[index] = node;
                Ok(())
            }
        }
    }

    /// Takes what all nodes do from a graph of the same shape.
    pub fn update(&mut self, graph: &Graph) -> Outcome {
        let kinds = |graph: &Graph| graph.nodes.iter().map(std::mem::discriminant).collect::<Vec<_>>();
        if graph.after != self.graph.after || kinds(graph) != kinds(&self.graph) {
            return fail!(GRAPH_EXEC_UPDATE_FAILURE, "the graph has another shape");
        }
        self.graph = graph.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_keep_dependencies_and_circles_are_refused() {
        let mut graph = Graph::default();
        for name in 1..=4 {
            graph.add(name, Node::Work(Work::Nothing), Vec::new());
        }
        graph.depend(4, 1).unwrap();
        graph.depend(1, 2).unwrap();
        assert_eq!(graph.order().unwrap(), [2, 3, 0, 1]);
        assert_eq!(graph.ancestors(&[1]), BTreeSet::from([0, 1, 3]));
        assert!(graph.depend(9, 1).is_err() && graph.depend(1, 1).is_err() && graph.depend(1, 2).is_err());
        graph.depend(2, 4).unwrap();
        assert!(graph.order().unwrap_err().message.contains("circle"));
    }
}
