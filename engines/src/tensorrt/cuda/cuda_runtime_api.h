// All that TensorRT's headers want of CUDA's: two names of pointers.
#pragma once
typedef struct CUevent_st* cudaEvent_t;
typedef struct CUstream_st* cudaStream_t;
