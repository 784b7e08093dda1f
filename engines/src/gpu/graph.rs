//! Changes the parameters of kernels in a captured CUDA graph: new words need no new capture.

use std::ffi::c_void;
use std::ptr;

use cudarc::driver::sys::{
    self, CUDA_KERNEL_NODE_PARAMS_v2 as NodeParameters, CUfunction, CUgraph, CUgraphExec, CUgraphNode,
    CUgraphNodeType, CUresult,
};
use cudarc::driver::{CudaGraph, DeviceRepr, LaunchConfig};

use super::device::{GpuError, cuda};

const DOING: &str = "patch a graph";

/// Has the one kernel of that function in a graph run with other parameters and another grid, from its next launch on.
///
/// # Errors
/// When the driver is older than 12.0, knows no such kernel in the graph, or refuses. The graph is as it was.
///
/// # Safety
/// As for a launch of the kernel ([`super::kernels::Kernels::launch`]), until the graph is gone or patched again.
pub(super) unsafe fn patch<P: DeviceRepr>(
    graph: &CudaGraph,
    function: CUfunction,
    config: LaunchConfig,
    parameters: &P,
) -> Result<(), GpuError> {
    let driver = Driver::load()?;
    let node = driver.node_of(graph.cu_graph(), function)?;
    let (grid, block) = (config.grid_dim, config.block_dim);
    let mut arguments = [ptr::from_ref(parameters).cast_mut().cast::<c_void>()];
    let changed = NodeParameters {
        func: function,
        gridDimX: grid.0,
        gridDimY: grid.1,
        gridDimZ: grid.2,
        blockDimX: block.0,
        blockDimY: block.1,
        blockDimZ: block.2,
        sharedMemBytes: config.shared_mem_bytes,
        kernelParams: arguments.as_mut_ptr(),
        extra: ptr::null_mut(),
        kern: ptr::null_mut(),
        ctx: ptr::null_mut(),
    };
    // SAFETY: the graph is alive and the node one of its own; the driver copies the parameters before it returns.
    unsafe { (driver.set)(graph.cu_graph_exec(), node, &raw const changed) }.result().map_err(cuda(DOING))
}

type Nodes = unsafe extern "C" fn(CUgraph, *mut CUgraphNode, *mut usize) -> CUresult;
type Type = unsafe extern "C" fn(CUgraphNode, *mut CUgraphNodeType) -> CUresult;
type Get = unsafe extern "C" fn(CUgraphNode, *mut NodeParameters) -> CUresult;
type Set = unsafe extern "C" fn(CUgraphExec, CUgraphNode, *const NodeParameters) -> CUresult;

/// What is called of the driver. Looked up, since CUDA's bindings panic where a function is missing.
struct Driver {
    nodes: Nodes,
    kind: Type,
    get: Get,
    set: Set,
}

/// A function of the driver, which is loaded, since there is a graph, and stays so.
///
/// # Safety
/// `F` is its signature.
unsafe fn look_up<F: Copy>(name: &str) -> Result<F, GpuError> {
    // SAFETY: the caller's promise.
    let found = unsafe { sys::culib().get::<F>(name.as_bytes()) };
    found
        .map(|function| *function)
        .map_err(|_| GpuError::Cuda { doing: DOING, reason: format!("the driver has no {name}") })
}

impl Driver {
    fn load() -> Result<Self, GpuError> {
        // SAFETY: the signatures are cuda.h's.
        unsafe {
            Ok(Self {
                nodes: look_up("cuGraphGetNodes")?,
                kind: look_up("cuGraphNodeGetType")?,
                get: look_up("cuGraphKernelNodeGetParams_v2")?,
                set: look_up("cuGraphExecKernelNodeSetParams_v2")?,
            })
        }
    }

    /// The one node of a graph that runs a function.
    fn node_of(&self, graph: CUgraph, function: CUfunction) -> Result<CUgraphNode, GpuError> {
        let mut found = None;
        for node in self.nodes_of(graph)? {
            let mut kind = CUgraphNodeType::CU_GRAPH_NODE_TYPE_EMPTY;
            // SAFETY: the node is of a graph that is alive.
            unsafe { (self.kind)(node, &raw mut kind) }.result().map_err(cuda(DOING))?;
            if kind != CUgraphNodeType::CU_GRAPH_NODE_TYPE_KERNEL {
                continue;
            }
            // SAFETY: zeros are null pointers and numbers; the node is a kernel's.
            let parameters = unsafe {
                let mut parameters: NodeParameters = std::mem::zeroed();
                (self.get)(node, &raw mut parameters).result().map_err(cuda(DOING))?;
                parameters
            };
            if parameters.func == function && found.replace(node).is_some() {
                return Err(GpuError::Cuda { doing: DOING, reason: "it has the kernel twice".to_owned() });
            }
        }
        found.ok_or_else(|| GpuError::Cuda { doing: DOING, reason: "it has no such kernel".to_owned() })
    }

    fn nodes_of(&self, graph: CUgraph) -> Result<Vec<CUgraphNode>, GpuError> {
        let mut count = 0;
        // SAFETY: the graph is alive; without a place for them the driver tells how many nodes there are.
        unsafe { (self.nodes)(graph, ptr::null_mut(), &raw mut count) }.result().map_err(cuda(DOING))?;
        let mut nodes = vec![ptr::null_mut(); count];
        // SAFETY: as above, and there is place for so many.
        unsafe { (self.nodes)(graph, nodes.as_mut_ptr(), &raw mut count) }.result().map_err(cuda(DOING))?;
        nodes.truncate(count);
        Ok(nodes)
    }
}
