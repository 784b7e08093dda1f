// The places in vtables of everything that shim.cpp calls of TensorRT's, and that TensorRT calls of it.
#pragma once
#include <NvInfer.h>
#include <NvOnnxParser.h>

#include <cstddef>
#include <cstring>

// Where a virtual function stands in its table: pointers to members say it (Itanium C++ ABI, section 2.3; on 64-bit ARM
// the mark of a virtual function is in the second word).
template <class F> size_t slot_of(F function)
{
    static_assert(sizeof(function) == 2 * sizeof(ptrdiff_t));
    ptrdiff_t words[2];
    std::memcpy(words, &function, sizeof(words));
#if defined(__aarch64__)
    return size_t(words[0]) / sizeof(void*);
#else
    return size_t(words[0] - 1) / sizeof(void*);
#endif
}

using DeserializeBytes = nvinfer1::ICudaEngine* (nvinfer1::apiv::VRuntime::*) (void const*, size_t) noexcept;

// CALLED(class, function): what shim.cpp reaches through an object of TensorRT's. `mImpl` of the I... is a V....
#define FOR_EACH_SLOT(CALLED, OVERLOADED) \
    CALLED(nvinfer1::apiv::VBuilder, createBuilderConfig) \
    CALLED(nvinfer1::apiv::VBuilder, createNetworkV2) \
    CALLED(nvinfer1::apiv::VBuilder, buildSerializedNetwork) \
    CALLED(nvinfer1::apiv::VNetworkDefinition, getNbInputs) \
    CALLED(nvinfer1::apiv::VNetworkDefinition, getInput) \
    CALLED(nvinfer1::apiv::VNetworkDefinition, getNbOutputs) \
    CALLED(nvinfer1::apiv::VNetworkDefinition, getOutput) \
    CALLED(nvinfer1::apiv::VTensor, getName) \
    CALLED(nvinfer1::apiv::VTensor, getDimensions) \
    CALLED(nvinfer1::apiv::VTensor, getType) \
    CALLED(nvinfer1::apiv::VBuilderConfig, createTimingCache) \
    CALLED(nvinfer1::apiv::VBuilderConfig, setTimingCache) \
    CALLED(nvinfer1::apiv::VBuilderConfig, getTimingCache) \
    CALLED(nvinfer1::apiv::VBuilderConfig, setMemoryPoolLimit) \
    CALLED(nvinfer1::apiv::VBuilderConfig, setProgressMonitor) \
    CALLED(nvinfer1::apiv::VTimingCache, serialize) \
    CALLED(nvinfer1::apiv::VHostMemory, data) \
    CALLED(nvinfer1::apiv::VHostMemory, size) \
    OVERLOADED(nvinfer1::apiv::VRuntime, deserializeCudaEngine, DeserializeBytes) \
    CALLED(nvinfer1::apiv::VCudaEngine, createExecutionContext) \
    CALLED(nvinfer1::apiv::VCudaEngine, getTensorShape) \
    CALLED(nvinfer1::apiv::VCudaEngine, getTensorDataType) \
    CALLED(nvinfer1::apiv::VCudaEngine, getTensorIOMode) \
    CALLED(nvinfer1::apiv::VCudaEngine, getNbIOTensors) \
    CALLED(nvinfer1::apiv::VCudaEngine, getIOTensorName) \
    CALLED(nvinfer1::apiv::VExecutionContext, setTensorAddress) \
    CALLED(nvinfer1::apiv::VExecutionContext, enqueueV3) \
    CALLED(nvonnxparser::IParser, parse) \
    CALLED(nvonnxparser::IParser, getNbErrors) \
    CALLED(nvonnxparser::IParser, getError) \
    CALLED(nvonnxparser::IParserError, desc) \
    CALLED(nvonnxparser::IParserError, node) \
    CALLED(nvinfer1::ILogger, log) \
    CALLED(nvinfer1::IProgressMonitor, getInterfaceInfo) \
    CALLED(nvinfer1::IProgressMonitor, phaseStart) \
    CALLED(nvinfer1::IProgressMonitor, stepComplete) \
    CALLED(nvinfer1::IProgressMonitor, phaseFinish)
