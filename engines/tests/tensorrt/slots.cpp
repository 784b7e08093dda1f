// Prints the slots of these headers, one a line, and the numbers of the enumerations that shim.cpp takes from them.
#include "slots.h"

#include <cstdio>

int main()
{
    using namespace nvinfer1;
#define PRINT(CLASS, FUNCTION) std::printf("%s::%s %zu\n", #CLASS, #FUNCTION, slot_of(&CLASS::FUNCTION));
#define PRINT_OVERLOADED(CLASS, FUNCTION, TYPE) \
    std::printf("%s::%s %zu\n", #CLASS, #FUNCTION, slot_of(static_cast<TYPE>(&CLASS::FUNCTION)));
    FOR_EACH_SLOT(PRINT, PRINT_OVERLOADED)
#define NUMBER(NAME) std::printf("%s %d\n", #NAME, int(NAME));
    NUMBER(NetworkDefinitionCreationFlag::kSTRONGLY_TYPED)
    NUMBER(MemoryPoolType::kWORKSPACE)
    NUMBER(TensorIOMode::kINPUT)
    NUMBER(ExecutionContextAllocationStrategy::kSTATIC)
    NUMBER(DataType::kFLOAT)
    NUMBER(DataType::kHALF)
    NUMBER(DataType::kINT8)
    NUMBER(DataType::kINT32)
    NUMBER(DataType::kBOOL)
    NUMBER(DataType::kUINT8)
    NUMBER(DataType::kINT64)
    NUMBER(ILogger::Severity::kINTERNAL_ERROR)
    NUMBER(ILogger::Severity::kINFO)
    NUMBER(NV_ONNX_PARSER_VERSION)
    NUMBER(sizeof(Dims))
    return 0;
}
