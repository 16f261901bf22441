//! The driver functions that `cust` refers to, and those that an engine calls through `cust_raw`. A function that
//! is not here does not link.

use std::ffi::{c_char, c_int, c_uchar, c_uint, c_ulonglong, c_ushort, c_void};

use cust_raw::*;

use crate::forward::forward;

// The library and its devices.
forward! {
    cuInit(flags: c_uint);
    cuDriverGetVersion(version: *mut c_int);
    cuDeviceGet(device: *mut CUdevice, ordinal: c_int);
    cuDeviceGetCount(count: *mut c_int);
    cuDeviceGetName(name: *mut c_char, len: c_int, device: CUdevice);
    cuDeviceGetUuid(uuid: *mut CUuuid, device: CUdevice);
    cuDeviceGetUuid_v2(uuid: *mut CUuuid, device: CUdevice);
    cuDeviceTotalMem_v2(bytes: *mut usize, device: CUdevice);
    cuDeviceGetAttribute(value: *mut c_int, attribute: CUdevice_attribute, device: CUdevice);
    cuDeviceGetDefaultMemPool(pool: *mut CUmemoryPool, device: CUdevice);
    cuDeviceGetPCIBusId(id: *mut c_char, len: c_int, device: CUdevice);
}

// Contexts.
forward! {
    cuDevicePrimaryCtxRetain(context: *mut CUcontext, device: CUdevice);
    cuDevicePrimaryCtxRelease_v2(device: CUdevice);
    cuDevicePrimaryCtxSetFlags_v2(device: CUdevice, flags: c_uint);
    cuDevicePrimaryCtxGetState(device: CUdevice, flags: *mut c_uint, active: *mut c_int);
    cuDevicePrimaryCtxReset_v2(device: CUdevice);
    cuCtxCreate_v2(context: *mut CUcontext, flags: c_uint, device: CUdevice);
    cuCtxDestroy_v2(context: CUcontext);
    cuCtxPushCurrent_v2(context: CUcontext);
    cuCtxPopCurrent_v2(context: *mut CUcontext);
    cuCtxSetCurrent(context: CUcontext);
    cuCtxGetCurrent(context: *mut CUcontext);
    cuCtxGetDevice(device: *mut CUdevice);
    cuCtxGetFlags(flags: *mut c_uint);
    cuCtxSynchronize();
    cuCtxSetLimit(limit: CUlimit, value: usize);
    cuCtxGetLimit(value: *mut usize, limit: CUlimit);
    cuCtxGetCacheConfig(config: *mut CUfunc_cache);
    cuCtxSetCacheConfig(config: CUfunc_cache);
    cuCtxGetSharedMemConfig(config: *mut CUsharedconfig);
    cuCtxSetSharedMemConfig(config: CUsharedconfig);
    cuCtxGetApiVersion(context: CUcontext, version: *mut c_uint);
    cuCtxGetStreamPriorityRange(least_priority: *mut c_int, greatest_priority: *mut c_int);
}

// Modules and the linker of PTX.
forward! {
    cuModuleLoad(module: *mut CUmodule, path: *const c_char);
    cuModuleLoadData(module: *mut CUmodule, image: *const c_void);
    cuModuleLoadDataEx(
        module: *mut CUmodule, image: *const c_void, option_count: c_uint, options: *mut CUjit_option,
        option_values: *mut *mut c_void,
    );
    cuModuleUnload(module: CUmodule);
    cuModuleGetFunction(function: *mut CUfunction, module: CUmodule, name: *const c_char);
    cuModuleGetGlobal_v2(pointer: *mut CUdeviceptr, bytes: *mut usize, module: CUmodule, name: *const c_char);
    cuLinkCreate_v2(
        option_count: c_uint, options: *mut CUjit_option, option_values: *mut *mut c_void,
        state: *mut CUlinkState,
    );
    cuLinkAddData_v2(
        state: CUlinkState, kind: CUjitInputType, data: *mut c_void, size: usize, name: *const c_char,
        option_count: c_uint, options: *mut CUjit_option, option_values: *mut *mut c_void,
    );
    cuLinkComplete(state: CUlinkState, cubin: *mut *mut c_void, size: *mut usize);
    cuLinkDestroy(state: CUlinkState);
}

// Memory of the device, and pinned memory of the host for transfers.
forward! {
    cuMemGetInfo_v2(free: *mut usize, total: *mut usize);
    cuMemAlloc_v2(pointer: *mut CUdeviceptr, bytes: usize);
    cuMemFree_v2(pointer: CUdeviceptr);
    cuMemGetAddressRange_v2(base: *mut CUdeviceptr, size: *mut usize, pointer: CUdeviceptr);
    cuMemAllocHost_v2(pointer: *mut *mut c_void, bytes: usize);
    cuMemFreeHost(pointer: *mut c_void);
    cuMemHostGetFlags(flags: *mut c_uint, pointer: *mut c_void);
    cuMemHostUnregister(pointer: *mut c_void);
    cuMemFreeAsync(pointer: CUdeviceptr, stream: CUstream);
    cuMemAllocAsync(pointer: *mut CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemPoolTrimTo(pool: CUmemoryPool, min_bytes_to_keep: usize);
    cuMemPoolSetAttribute(pool: CUmemoryPool, attribute: CUmemPool_attribute, value: *mut c_void);
    cuMemPoolGetAttribute(pool: CUmemoryPool, attribute: CUmemPool_attribute, value: *mut c_void);
    cuPointerGetAttribute(data: *mut c_void, attribute: CUpointer_attribute, pointer: CUdeviceptr);
    cuPointerGetAttributes(
        attribute_count: c_uint, attributes: *mut CUpointer_attribute, data: *mut *mut c_void,
        pointer: CUdeviceptr,
    );
}

// Memory that moves by itself between host and device, or that kernels read across the bus: what this project
// computes with lives in device memory only.
forward! {
    cuMemAllocManaged(pointer: *mut CUdeviceptr, bytes: usize, flags: c_uint) refused if true;
    cuMemAdvise(pointer: CUdeviceptr, count: usize, advice: CUmem_advise, device: CUdevice) refused if true;
    cuMemPrefetchAsync(pointer: CUdeviceptr, count: usize, device: CUdevice, stream: CUstream) refused if true;
    cuMemHostAlloc(pointer: *mut *mut c_void, bytes: usize, flags: c_uint)
        refused if flags & CU_MEMHOSTALLOC_DEVICEMAP != 0;
    cuMemHostRegister_v2(pointer: *mut c_void, bytes: usize, flags: c_uint)
        refused if flags & CU_MEMHOSTREGISTER_DEVICEMAP != 0;
    cuMemHostGetDevicePointer_v2(device: *mut CUdeviceptr, pointer: *mut c_void, flags: c_uint) refused if true;
}

// Copies and fills.
forward! {
    cuMemcpyHtoD_v2(to: CUdeviceptr, from: *const c_void, bytes: usize);
    cuMemcpyDtoH_v2(to: *mut c_void, from: CUdeviceptr, bytes: usize);
    cuMemcpyDtoD_v2(to: CUdeviceptr, from: CUdeviceptr, bytes: usize);
    cuMemcpyHtoA_v2(to: CUarray, offset: usize, from: *const c_void, bytes: usize);
    cuMemcpyAtoH_v2(to: *mut c_void, from: CUarray, offset: usize, bytes: usize);
    cuMemcpy2D_v2(copy: *const CUDA_MEMCPY2D);
    cuMemcpyAsync(to: CUdeviceptr, from: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemcpyHtoDAsync_v2(to: CUdeviceptr, from: *const c_void, bytes: usize, stream: CUstream);
    cuMemcpyDtoHAsync_v2(to: *mut c_void, from: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemcpyDtoDAsync_v2(to: CUdeviceptr, from: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemsetD8_v2(to: CUdeviceptr, value: c_uchar, count: usize);
    cuMemsetD16_v2(to: CUdeviceptr, value: c_ushort, count: usize);
    cuMemsetD32_v2(to: CUdeviceptr, value: c_uint, count: usize);
    cuMemsetD8Async(to: CUdeviceptr, value: c_uchar, count: usize, stream: CUstream);
    cuMemsetD16Async(to: CUdeviceptr, value: c_ushort, count: usize, stream: CUstream);
    cuMemsetD32Async(to: CUdeviceptr, value: c_uint, count: usize, stream: CUstream);
}

// Streams, graph capture and events.
forward! {
    cuStreamCreate(stream: *mut CUstream, flags: c_uint);
    cuStreamCreateWithPriority(stream: *mut CUstream, flags: c_uint, priority: c_int);
    cuStreamGetPriority(stream: CUstream, priority: *mut c_int);
    cuStreamGetFlags(stream: CUstream, flags: *mut c_uint);
    cuStreamWaitEvent(stream: CUstream, event: CUevent, flags: c_uint);
    cuStreamBeginCapture_v2(stream: CUstream, mode: CUstreamCaptureMode);
    cuStreamEndCapture(stream: CUstream, graph: *mut CUgraph);
    cuStreamIsCapturing(stream: CUstream, capture_status: *mut CUstreamCaptureStatus);
    cuStreamQuery(stream: CUstream);
    cuStreamSynchronize(stream: CUstream);
    cuStreamDestroy_v2(stream: CUstream);
    cuEventCreate(event: *mut CUevent, flags: c_uint);
    cuEventRecord(event: CUevent, stream: CUstream);
    cuEventQuery(event: CUevent);
    cuEventSynchronize(event: CUevent);
    cuEventDestroy_v2(event: CUevent);
    cuEventElapsedTime(milliseconds: *mut f32, start: CUevent, end: CUevent);
}

// Functions and launches.
forward! {
    cuFuncGetAttribute(value: *mut c_int, attribute: CUfunction_attribute, function: CUfunction);
    cuFuncSetAttribute(function: CUfunction, attribute: CUfunction_attribute, value: c_int);
    cuFuncSetCacheConfig(function: CUfunction, config: CUfunc_cache);
    cuFuncSetSharedMemConfig(function: CUfunction, config: CUsharedconfig);
    cuLaunchKernel(
        function: CUfunction, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint,
        block_y: c_uint, block_z: c_uint, shared_bytes: c_uint, stream: CUstream,
        parameters: *mut *mut c_void, extra: *mut *mut c_void,
    );
    cuLaunchCooperativeKernel(
        function: CUfunction, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint,
        block_y: c_uint, block_z: c_uint, shared_bytes: c_uint, stream: CUstream,
        parameters: *mut *mut c_void,
    );
    cuLaunchHostFunc(stream: CUstream, function: CUhostFn, user_data: *mut c_void);
    cuOccupancyMaxActiveBlocksPerMultiprocessor(
        blocks: *mut c_int, function: CUfunction, block_size: c_int, shared_bytes: usize,
    );
    cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        blocks: *mut c_int, function: CUfunction, block_size: c_int, shared_bytes: usize, flags: c_uint,
    );
    cuOccupancyMaxPotentialBlockSize(
        min_grid_size: *mut c_int, block_size: *mut c_int, function: CUfunction,
        shared_bytes_of_size: CUoccupancyB2DSize, shared_bytes: usize, block_size_limit: c_int,
    );
    cuOccupancyAvailableDynamicSMemPerBlock(
        shared_bytes: *mut usize, function: CUfunction, blocks: c_int, block_size: c_int,
    );
}

// Graphs.
forward! {
    cuGraphCreate(graph: *mut CUgraph, flags: c_uint);
    cuGraphAddKernelNode(
        node: *mut CUgraphNode, graph: CUgraph, dependencies: *const CUgraphNode,
        dependency_count: usize, parameters: *const CUDA_KERNEL_NODE_PARAMS,
    );
    cuGraphKernelNodeGetParams(node: CUgraphNode, parameters: *mut CUDA_KERNEL_NODE_PARAMS);
    cuGraphNodeGetType(node: CUgraphNode, kind: *mut CUgraphNodeType);
    cuGraphGetNodes(graph: CUgraph, nodes: *mut CUgraphNode, node_count: *mut usize);
    cuGraphGetEdges(graph: CUgraph, from: *mut CUgraphNode, to: *mut CUgraphNode, edge_count: *mut usize);
    cuGraphInstantiate_v2(
        executable: *mut CUgraphExec, graph: CUgraph, error_node: *mut CUgraphNode, log_buffer: *mut c_char,
        buffer_size: usize,
    );
    cuGraphInstantiateWithFlags(executable: *mut CUgraphExec, graph: CUgraph, flags: c_ulonglong);
    cuGraphUpload(executable: CUgraphExec, stream: CUstream);
    cuGraphLaunch(executable: CUgraphExec, stream: CUstream);
    cuGraphExecDestroy(executable: CUgraphExec);
    cuGraphDestroy(graph: CUgraph);
    cuGraphExecUpdate(
        executable: CUgraphExec, graph: CUgraph, error_node: *mut CUgraphNode,
        result: *mut CUgraphExecUpdateResult,
    );
    cuGraphDebugDotPrint(graph: CUgraph, path: *const c_char, flags: c_uint);
}

// Arrays, textures, surfaces and other programs' memory, which cust refers to.
forward! {
    cuArrayDestroy(array: CUarray);
    cuArray3DCreate_v2(array: *mut CUarray, descriptor: *const CUDA_ARRAY3D_DESCRIPTOR);
    cuArray3DGetDescriptor_v2(descriptor: *mut CUDA_ARRAY3D_DESCRIPTOR, array: CUarray);
    cuImportExternalMemory(
        memory: *mut CUexternalMemory, handle: *const CUDA_EXTERNAL_MEMORY_HANDLE_DESC,
    );
    cuExternalMemoryGetMappedBuffer(
        pointer: *mut CUdeviceptr, memory: CUexternalMemory,
        buffer: *const CUDA_EXTERNAL_MEMORY_BUFFER_DESC,
    );
    cuDestroyExternalMemory(memory: CUexternalMemory);
    cuTexObjectCreate(
        texture: *mut CUtexObject, resource: *const CUDA_RESOURCE_DESC, sampling: *const CUDA_TEXTURE_DESC,
        view: *const CUDA_RESOURCE_VIEW_DESC,
    );
    cuTexObjectDestroy(texture: CUtexObject);
    cuTexObjectGetResourceDesc(resource: *mut CUDA_RESOURCE_DESC, texture: CUtexObject);
    cuTexObjectGetResourceViewDesc(view: *mut CUDA_RESOURCE_VIEW_DESC, texture: CUtexObject);
    cuSurfObjectCreate(surface: *mut CUsurfObject, resource: *const CUDA_RESOURCE_DESC);
    cuSurfObjectDestroy(surface: CUsurfObject);
    cuSurfObjectGetResourceDesc(resource: *mut CUDA_RESOURCE_DESC, surface: CUsurfObject);
}
