//! Graphs that are built node by node.

use super::*;

/// A graph of one launch of [`ADD`] to `grid` blocks; gives the graph and its node.
fn graph_of(function: Handle, grid: u32, mut x: u64, mut y: u64) -> (Handle, Handle) {
    let mut graph = 0;
    assert_eq!(cuGraphCreate(&mut graph, 0), SUCCESS);
    let mut value = 1u32;
    let mut parameters: [*mut c_void; 3] =
        [ptr::from_mut(&mut x).cast(), ptr::from_mut(&mut y).cast(), ptr::from_mut(&mut value).cast()];
    let launch = kernel_node(function, grid, &mut parameters);
    let mut node = 0;
    assert_eq!(cuGraphAddKernelNode(&mut node, graph, ptr::null(), 0, &launch), SUCCESS);
    (graph, node)
}

fn kernel_node(function: Handle, grid: u32, parameters: &mut [*mut c_void; 3]) -> KernelNode {
    let (grid, block) = ([grid, 1, 1], [1, 1, 1]);
    KernelNode {
        function,
        grid,
        block,
        shared: 0,
        parameters: parameters.as_mut_ptr(),
        extra: ptr::null_mut(),
    }
}

#[test]
fn a_grid_without_blocks_may_wait_in_a_graph_until_it_is_launched() {
    let sentence = "add: 0 blocks along axis 0";
    rule("graphs::a_grid_without_blocks_may_wait_in_a_graph_until_it_is_launched", &[sentence], || {
        start();
        let (mut x, stream, function) = (allocate(4), stream(), add_kernel());
        write_number(x, 7);
        let (graph, node) = graph_of(function, 0, x, x);
        let mut exec = 0;
        assert_eq!(cuGraphInstantiateWithFlags(&mut exec, graph, 0), SUCCESS);
        assert_eq!(cuGraphLaunch(exec, stream), INVALID_VALUE);
        let (mut y, mut value) = (x, 2u32);
        let mut parameters: [*mut c_void; 3] =
            [ptr::from_mut(&mut x).cast(), ptr::from_mut(&mut y).cast(), ptr::from_mut(&mut value).cast()];
        let launch = kernel_node(function, 1, &mut parameters);
        assert_eq!(cuGraphExecKernelNodeSetParams(exec, node, &launch), SUCCESS);
        assert_eq!((cuGraphLaunch(exec, stream), cuStreamSynchronize(stream)), (SUCCESS, SUCCESS));
        assert_eq!(number_at(x), 9);
    });
}

#[test]
fn a_node_runs_on_the_device_of_its_function() {
    let name = "graphs::a_node_runs_on_the_device_of_its_function";
    rule_with(name, &[("SSMV_CUDA_DEVICES", "2")], &[], || {
        start();
        let first = primary();
        let mut second = 0;
        assert_eq!(cuDevicePrimaryCtxRetain(&mut second, 1), SUCCESS);
        assert_eq!(cuCtxSetCurrent(second), SUCCESS);
        let (x, function) = (allocate(4), add_kernel());
        write_number(x, 7);
        // A launch in a stream of the first device is refused; in a graph the function says where it runs.
        assert_eq!(cuCtxSetCurrent(first), SUCCESS);
        let stream = stream();
        assert_eq!(add(function, x, x, 1, 1, stream), INVALID_HANDLE);
        let (graph, _) = graph_of(function, 1, x, x);
        let mut exec = 0;
        assert_eq!(cuGraphInstantiateWithFlags(&mut exec, graph, 0), SUCCESS);
        assert_eq!((cuGraphLaunch(exec, stream), cuStreamSynchronize(stream)), (SUCCESS, SUCCESS));
        assert_eq!(cuCtxSetCurrent(second), SUCCESS);
        assert_eq!(number_at(x), 8);
    });
}
