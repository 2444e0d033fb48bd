//! Graphs.

use std::ffi::{c_char, c_void};

use super::{
    copy::{box_copy, fill_of},
    launch::launch_of,
};
use crate::{
    code::{Outcome, fail},
    driver::{Entered, enter},
    ffi::{HostNodeParams, In, InstantiateParams, KernelNodeParams, Memcpy3d, MemsetNodeParams, Out},
    graph::{Graph, GraphExec, Node},
    handle::Handle,
    work::{HostCall, Work},
};

/// Adds a node after others; its handle.
fn add(
    entered: &mut Entered,
    node_out: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    count: usize,
    node: Node,
) -> Outcome {
    let names = after.array(count)?;
    let found = entered.state.graphs.get(graph)?;
    let after = names.into_iter().map(|name| found.index(name)).collect::<Outcome<Vec<_>>>()?;
    let name = entered.state.nodes.insert(Default::default());
    entered.state.graphs.get_mut(graph)?.add(name, node, after);
    node_out.set(name)
}

fn kernel(entered: &Entered, parameters: In<KernelNodeParams>) -> Outcome<Node> {
    Ok(Node::Work(Work::Launch(launch_of(entered, &parameters.get()?)?)))
}

fn copy(entered: &Entered, parameters: In<Memcpy3d>) -> Outcome<Node> {
    Ok(Node::Work(Work::Copy(box_copy(entered, "cuGraphAddMemcpyNode", &parameters.get()?)?)))
}

fn fill(entered: &Entered, parameters: In<MemsetNodeParams>) -> Outcome<Node> {
    let p = parameters.get()?;
    Ok(Node::Work(Work::Fill(fill_of(entered, p.address, p.value, p.element, [p.width, p.height, p.pitch])?)))
}

fn host(parameters: In<HostNodeParams>) -> Outcome<Node> {
    match parameters.get()? {
        HostNodeParams { function: Some(function), data } => {
            Ok(Node::Work(Work::Host(HostCall::Plain(function, data))))
        }
        _ => fail!(INVALID_VALUE, "the host function is null"),
    }
}

fn instantiate(exec: Out<Handle>, graph: Handle) -> Outcome {
    let mut entered = enter()?;
    let made = GraphExec::new(entered.state.graphs.get(graph)?)?;
    exec.set(entered.state.graph_execs.insert(made))
}

fn set(entered: &mut Entered, exec: Handle, node: Handle, what: Node) -> Outcome {
    entered.state.graph_execs.get_mut(exec)?.set(node, what)
}

/// Writes the handles of nodes, or their number where no place is given.
fn list(nodes: &[Handle], out: Out<Handle>, count: Out<usize>) -> Outcome {
    if out.is_null() {
        return count.set(nodes.len());
    }
    let capacity = count.get()?;
    count.set(nodes.len().min(capacity))?;
    (0..capacity).try_for_each(|i| out.at(i).set(nodes.get(i).copied().unwrap_or(0)))
}

api! {
    cuGraphCreate since 10000 (graph: Out<Handle>, flags: u32) {
        let mut entered = enter()?;
        if flags != 0 {
            return fail!(INVALID_VALUE, "flags {flags}: 0 is expected");
        }
        graph.set(entered.state.graphs.insert(Graph::default()))
    }

    cuGraphDestroy since 10000 (graph: Handle) { enter()?.state.graphs.remove(graph).map(drop) }

    cuGraphClone since 10000 (clone: Out<Handle>, graph: Handle) {
        let mut entered = enter()?;
        let copy = entered.state.graphs.get(graph)?.clone();
        clone.set(entered.state.graphs.insert(copy))
    }

    cuGraphAddKernelNode since 10000 (
        node: Out<Handle>, graph: Handle, after: In<Handle>, count: usize, parameters: In<KernelNodeParams>,
    ) {
        let mut entered = enter()?;
        let work = kernel(&entered, parameters)?;
        add(&mut entered, node, graph, after, count, work)
    }

    cuGraphAddKernelNode_v2 since 12000 (
        node: Out<Handle>, graph: Handle, after: In<Handle>, count: usize, parameters: In<KernelNodeParams>,
    ) {
        let mut entered = enter()?;
        let work = kernel(&entered, parameters)?;
        add(&mut entered, node, graph, after, count, work)
    }

    cuGraphAddMemcpyNode since 10000 (
        node: Out<Handle>, graph: Handle, after: In<Handle>, count: usize, parameters: In<Memcpy3d>, _context: Handle,
    ) {
        let mut entered = enter()?;
        let work = copy(&entered, parameters)?;
        add(&mut entered, node, graph, after, count, work)
    }

    cuGraphAddMemsetNode since 10000 (
        node: Out<Handle>, graph: Handle, after: In<Handle>, count: usize, parameters: In<MemsetNodeParams>,
        _context: Handle,
    ) {
        let mut entered = enter()?;
        let work = fill(&entered, parameters)?;
        add(&mut entered, node, graph, after, count, work)
    }

    cuGraphAddHostNode since 10000 (
        node: Out<Handle>, graph: Handle, after: In<Handle>, count: usize, parameters: In<HostNodeParams>,
    ) {
        let mut entered = enter()?;
        add(&mut entered, node, graph, after, count, host(parameters)?)
    }

    cuGraphAddEmptyNode since 10000 (node: Out<Handle>, graph: Handle, after: In<Handle>, count: usize) {
        add(&mut enter()?, node, graph, after, count, Node::Work(Work::Nothing))
    }

    cuGraphAddChildGraphNode since 10000 (
        node: Out<Handle>, graph: Handle, after: In<Handle>, count: usize, child: Handle,
    ) {
        let mut entered = enter()?;
        let child = entered.state.graphs.get(child)?.clone();
        add(&mut entered, node, graph, after, count, Node::Child(child))
    }

    cuGraphAddEventRecordNode since 11010 (
        node: Out<Handle>, graph: Handle, after: In<Handle>, count: usize, event: Handle,
    ) {
        let mut entered = enter()?;
        entered.state.events.get(event)?;
        add(&mut entered, node, graph, after, count, Node::Record(event))
    }

    cuGraphAddEventWaitNode since 11010 (
        node: Out<Handle>, graph: Handle, after: In<Handle>, count: usize, event: Handle,
    ) {
        let mut entered = enter()?;
        entered.state.events.get(event)?;
        add(&mut entered, node, graph, after, count, Node::Wait(event))
    }

    cuGraphAddDependencies since 10000 (graph: Handle, from: In<Handle>, to: In<Handle>, count: usize) {
        let mut entered = enter()?;
        let (from, to) = (from.array(count)?, to.array(count)?);
        let graph = entered.state.graphs.get_mut(graph)?;
        from.into_iter().zip(to).try_for_each(|(from, to)| graph.depend(from, to))
    }

    cuGraphGetNodes since 10000 (graph: Handle, nodes: Out<Handle>, count: Out<usize>) {
        let entered = enter()?;
        list(&entered.state.graphs.get(graph)?.names, nodes, count)
    }

    cuGraphNodeGetType since 10000 (node: Handle, kind: Out<u32>) {
        let entered = enter()?;
        let found = entered.state.graphs.iter().find_map(|(_, graph)| graph.nodes.get(graph.index(node).ok()?));
        match found {
            Some(Node::Work(Work::Launch(_))) => kind.set(0),
            Some(Node::Work(Work::Copy(_))) => kind.set(1),
            Some(Node::Work(Work::Fill(_))) => kind.set(2),
            Some(Node::Work(Work::Host(_))) => kind.set(3),
            Some(Node::Child(_)) => kind.set(4),
            Some(Node::Work(_)) => kind.set(5),
            Some(Node::Wait(_)) => kind.set(6),
            Some(Node::Record(_)) => kind.set(7),
            None => fail!(INVALID_VALUE, "the node {node:#x} is not one of a graph"),
        }
    }

    cuGraphInstantiate_v2 since 11000 (
        exec: Out<Handle>, graph: Handle, _error_node: Out<Handle>, _log: Out<c_char>, _capacity: usize,
    ) {
        instantiate(exec, graph)
    }

    cuGraphInstantiateWithFlags since 11040 (exec: Out<Handle>, graph: Handle, _flags: u64) { instantiate(exec, graph) }

    cuGraphInstantiateWithParams since 12000 (exec: Out<Handle>, graph: Handle, parameters: Out<InstantiateParams>) {
        let given = parameters.get()?;
        parameters.set(InstantiateParams { error_node: 0, result: 0, ..given })?;
        instantiate(exec, graph)
    }

    cuGraphUpload since 11010 (exec: Handle, stream: Handle) {
        let mut entered = enter()?;
        entered.stream(stream)?;
        entered.state.graph_execs.get(exec).map(drop)
    }

    cuGraphLaunch since 10000 (exec: Handle, stream: Handle) {
        let mut entered = enter()?;
        let stream = entered.stream(stream)?;
        entered.state.launch_graph(exec, stream)
    }

    cuGraphExecDestroy since 10000 (exec: Handle) { enter()?.state.graph_execs.remove(exec).map(drop) }

    cuGraphExecKernelNodeSetParams since 10010 (exec: Handle, node: Handle, parameters: In<KernelNodeParams>) {
        let mut entered = enter()?;
        let work = kernel(&entered, parameters)?;
        set(&mut entered, exec, node, work)
    }

    cuGraphExecKernelNodeSetParams_v2 since 12000 (exec: Handle, node: Handle, parameters: In<KernelNodeParams>) {
        let mut entered = enter()?;
        let work = kernel(&entered, parameters)?;
        set(&mut entered, exec, node, work)
    }

    cuGraphExecMemcpyNodeSetParams since 10020 (
        exec: Handle, node: Handle, parameters: In<Memcpy3d>, _context: Handle,
    ) {
        let mut entered = enter()?;
        let work = copy(&entered, parameters)?;
        set(&mut entered, exec, node, work)
    }

    cuGraphExecMemsetNodeSetParams since 10020 (
        exec: Handle, node: Handle, parameters: In<MemsetNodeParams>, _context: Handle,
    ) {
        let mut entered = enter()?;
        let work = fill(&entered, parameters)?;
        set(&mut entered, exec, node, work)
    }

    cuGraphExecHostNodeSetParams since 10020 (exec: Handle, node: Handle, parameters: In<HostNodeParams>) {
        let mut entered = enter()?;
        set(&mut entered, exec, node, host(parameters)?)
    }

    cuGraphExecUpdate_v2 since 12000 (exec: Handle, graph: Handle, _result: Out<c_void>) {
        let mut entered = enter()?;
        let graph = entered.state.graphs.get(graph)?.clone();
        entered.state.graph_execs.get_mut(exec)?.update(&graph)
    }
}
