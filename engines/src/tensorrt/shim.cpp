// A C interface to TensorRT, compiled once for each family of headers (tensorrt/mod.rs says which and why).
//
// Nothing is linked: the caller loads the libraries and hands over their factories, and everything else goes through
// the vtables that NVIDIA's headers describe. The build renames the namespaces of those headers for each family, so
// that inline functions of two families never become one in the linker.
#include <NvInfer.h>
#include <NvOnnxParser.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

// What differs between the families, all in one place.
#if defined(TRT_MAJOR_RTX)  // TensorRT for RTX counts its own versions: 1.x
#define FAMILY_IS_RTX 1
#else  // the TensorRT of Jetson and data centres: 10.x, 11.x
#define FAMILY_IS_RTX 0
#endif
#ifndef NV_TENSORRT_VERSION
#error "these headers are of a TensorRT before 10: JetPack 6 or later has newer ones"
#endif
#if !FAMILY_IS_RTX && NV_TENSORRT_MAJOR < 10
#error "these headers are of a TensorRT before 10: JetPack 6 or later has newer ones"
#endif

namespace {

using namespace nvinfer1;

enum Status : int32_t { kOk = 0, kRefused = 1, kNotAModel = 2, kUnsupported = 3, kThrown = 4, kStopped = 5 };

using LogFunction = void (*)(int32_t severity, char const* message);
// Returns 0 to stop the build.
using ProgressFunction = int32_t (*)(void* user, char const* phase, int32_t step, int32_t steps);
using Factory = void* (*)(void* logger, int32_t version);
using ParserFactory = void* (*)(void* network, void* logger, int32_t version);

// Our own numbers: those of DataType differ between versions.
enum ElementType : int32_t { kF32 = 0, kF16 = 1, kI8 = 2, kI32 = 3, kBool = 4, kU8 = 5, kI64 = 6, kOther = 7 };

struct Port {
    char const* name;
    int32_t element_type;
    int32_t dimension_count;
    int64_t dimensions[8];
};

// Severities, likewise.
int32_t severity_of(ILogger::Severity severity)
{
    switch (severity) {
    case ILogger::Severity::kINTERNAL_ERROR: return 0;
    case ILogger::Severity::kERROR: return 1;
    case ILogger::Severity::kWARNING: return 2;
    case ILogger::Severity::kINFO: return 3;
    default: return 4;
    }
}

// A call under way, and what TensorRT said of errors in it.
struct Call {
    std::thread::id thread = std::this_thread::get_id();
    std::string errors;

    Call();
    ~Call();
    Call(Call const&) = delete;
    Call& operator=(Call const&) = delete;
};

// One for the process, never freed: TensorRT keeps the first logger that it is given for all that it makes, and may
// have words for it when nothing of ours is left.
struct Logger final : ILogger {
    std::atomic<LogFunction> function{};
    std::mutex mutex;
    std::vector<Call*> calls;

    static Logger& one()
    {
        static auto* logger = new Logger;
        return *logger;
    }

    void log(Severity severity, char const* message) noexcept override
    {
        try {
            if (severity_of(severity) <= 1) {
                std::lock_guard<std::mutex> guard(mutex);
                auto const own = std::this_thread::get_id();
                bool is_known = false;
                for (auto const* call : calls) is_known |= call->thread == own;
                // A builder's own threads are nobody's in particular.
                for (auto* call : calls)
                    if ((!is_known || call->thread == own) && call->errors.size() < 4096)
                        call->errors += (call->errors.empty() ? "" : "; ") + std::string(message);
            }
            if (auto* told = function.load()) told(severity_of(severity), message);
        } catch (...) {
        }
    }
};

Call::Call()
{
    std::lock_guard<std::mutex> guard(Logger::one().mutex);
    Logger::one().calls.push_back(this);
}
Call::~Call()
{
    std::lock_guard<std::mutex> guard(Logger::one().mutex);
    auto& calls = Logger::one().calls;
    calls.erase(std::find(calls.begin(), calls.end(), this));
}

struct Progress final : IProgressMonitor {
    ProgressFunction function{};
    void* user{};
    std::mutex mutex;
    std::string outermost;  // only its steps are told: those within it come and go by the hundred
    int32_t steps{};
    bool stopped{};

    void phaseStart(char const* phase, char const* parent, int32_t count) noexcept override
    {
        try {
            std::lock_guard<std::mutex> guard(mutex);
            if (parent) return;
            outermost = phase;
            steps = count;
            stopped |= function(user, phase, 0, count) == 0;
        } catch (...) {
        }
    }
    bool stepComplete(char const* phase, int32_t step) noexcept override
    {
        try {
            std::lock_guard<std::mutex> guard(mutex);
            if (outermost == phase) stopped |= function(user, phase, step + 1, steps) == 0;
            return !stopped;
        } catch (...) {
            return true;
        }
    }
    void phaseFinish(char const*) noexcept override {}
};

struct Library {
    Factory make_builder{};
    Factory make_runtime{};
    ParserFactory make_parser{};
    // Its own: it refuses callers that were compiled against newer headers.
    int32_t version{};
    std::string last_error;

    Status fail(Call& call, Status status, std::string what)
    {
        std::string said;
        {
            std::lock_guard<std::mutex> guard(Logger::one().mutex);
            said.swap(call.errors);
        }
        last_error = std::move(what);
        if (!said.empty()) last_error += ": " + said;
        return status;
    }
};

// Members are destroyed last to first. The parser owns the weights and must outlive the build.
struct Builder {
    Library* library;
    Progress progress;
    std::unique_ptr<IBuilder> builder;
    std::unique_ptr<INetworkDefinition> network;
    std::unique_ptr<nvonnxparser::IParser> parser;
    std::unique_ptr<IBuilderConfig> config;
    std::unique_ptr<ITimingCache> timing_cache;
};

struct Bytes {
    std::unique_ptr<IHostMemory> memory;
};

struct Engine {
    Library* library;
    std::unique_ptr<IRuntime> runtime;
    std::unique_ptr<ICudaEngine> engine;
    std::unique_ptr<IExecutionContext> context;
};

// Some libraries return a null base plus an offset when they fail. No object lives in the first page.
template <class T> T* made(void* pointer)
{
    return reinterpret_cast<uintptr_t>(pointer) < 4096 ? nullptr : static_cast<T*>(pointer);
}

template <class F> int32_t guarded(Library* library, F function) noexcept
{
    try {
        Call call;
        return function(call);
    } catch (std::exception const& thrown) {
        try {
            library->last_error = thrown.what();
        } catch (...) {
        }
    } catch (...) {
    }
    return kThrown;
}

int32_t element_type_of(DataType type)
{
    switch (type) {
    case DataType::kFLOAT: return kF32;
    case DataType::kHALF: return kF16;
    case DataType::kINT8: return kI8;
    case DataType::kINT32: return kI32;
    case DataType::kBOOL: return kBool;
    case DataType::kUINT8: return kU8;
    case DataType::kINT64: return kI64;
    default: return kOther;
    }
}

void describe(Port* port, char const* name, DataType type, Dims const& dims)
{
    *port = {name, element_type_of(type), dims.nbDims, {}};
    for (int32_t at = 0; at < dims.nbDims && at < 8; ++at) port->dimensions[at] = dims.d[at];
}

Library* open(Factory make_builder, Factory make_runtime, ParserFactory make_parser, int32_t version,
    LogFunction log) noexcept
{
    auto* library = new (std::nothrow) Library;
    if (!library) return nullptr;
    Logger::one().function = log;
    library->make_builder = make_builder;
    library->make_runtime = make_runtime;
    library->make_parser = make_parser;
    library->version = version;
    return library;
}
void close(Library* library) noexcept { delete library; }
char const* last_error(Library const* library) noexcept { return library->last_error.c_str(); }

int32_t parse(Library* library, void const* model, size_t size, Builder** out) noexcept
{
    return guarded(library, [&](Call& call) -> Status {
        if (!library->make_builder || !library->make_parser)
            return library->fail(call, kUnsupported, "it can run plans but not build them");
        auto made_builder = std::unique_ptr<Builder>(new Builder{});
        auto& b = *made_builder;
        b.library = library;
        b.builder.reset(made<IBuilder>(library->make_builder(static_cast<ILogger*>(&Logger::one()), library->version)));
        if (!b.builder) return library->fail(call, kRefused, "no builder");
        b.network.reset(b.builder->createNetworkV2(
            1U << static_cast<uint32_t>(NetworkDefinitionCreationFlag::kSTRONGLY_TYPED)));
        if (!b.network) return library->fail(call, kRefused, "no network");
        b.config.reset(b.builder->createBuilderConfig());
        if (!b.config) return library->fail(call, kRefused, "no builder configuration");
        b.parser.reset(made<nvonnxparser::IParser>(library->make_parser(
            b.network.get(), static_cast<ILogger*>(&Logger::one()), NV_ONNX_PARSER_VERSION)));
        if (!b.parser) return library->fail(call, kRefused, "no ONNX parser");
        if (!b.parser->parse(model, size)) {
            std::string errors;
            for (int32_t at = 0; at < b.parser->getNbErrors(); ++at) {
                auto const* error = b.parser->getError(at);
                if (at) errors += "; ";
                if (error->node() >= 0) errors += "node " + std::to_string(error->node()) + ": ";
                errors += error->desc();
            }
            return library->fail(call, kNotAModel, errors.empty() ? "no reason given" : std::move(errors));
        }
        *out = made_builder.release();
        return kOk;
    });
}
void free_builder(Builder* builder) noexcept { delete builder; }

int32_t port_count(Builder const* b, int32_t outputs) noexcept
{
    return outputs ? b->network->getNbOutputs() : b->network->getNbInputs();
}
int32_t port(Builder const* b, int32_t outputs, int32_t at, Port* out) noexcept
{
    auto* tensor = outputs ? b->network->getOutput(at) : b->network->getInput(at);
    if (!tensor) return kRefused;
    describe(out, tensor->getName(), tensor->getType(), tensor->getDimensions());
    return kOk;
}

void limit_workspace(Builder* b, uint64_t bytes) noexcept
{
    b->config->setMemoryPoolLimit(MemoryPoolType::kWORKSPACE, bytes);
}

// `capability` as 89 for 8.9; 0 for the GPU that is there.
int32_t set_target(Builder* b, int32_t capability) noexcept
{
    return guarded(b->library, [&](Call& call) -> Status {
#if FAMILY_IS_RTX
        auto target = capability ? static_cast<ComputeCapability>(capability) : ComputeCapability::kCURRENT;
        if (b->config->setNbComputeCapabilities(1) && b->config->setComputeCapability(target, 0)) return kOk;
        return b->library->fail(call, kRefused, "no plan for that compute capability (`wordsight plan build --help` lists those that there are)");
#else
        if (!capability) return kOk;
        return b->library->fail(call, kUnsupported, "it builds only for the GPU that it runs on");
#endif
    });
}

// TensorRT for RTX times nothing while it builds and has no such cache.
int32_t set_timing_cache(Builder* b, void const* bytes, size_t size) noexcept
{
    return guarded(b->library, [&](Call& call) -> Status {
#if FAMILY_IS_RTX
        (void) bytes;
        (void) size;
        return b->library->fail(call, kUnsupported, "TensorRT for RTX has no timing cache");
#else
        b->timing_cache.reset(b->config->createTimingCache(bytes, size));
        if (!b->timing_cache || !b->config->setTimingCache(*b->timing_cache, false))
            return b->library->fail(call, kRefused, "timing cache refused");
        return kOk;
#endif
    });
}
int32_t timing_cache(Builder* b, Bytes** out) noexcept
{
    return guarded(b->library, [&](Call& call) -> Status {
#if FAMILY_IS_RTX
        (void) out;
        return b->library->fail(call, kUnsupported, "TensorRT for RTX has no timing cache");
#else
        auto const* cache = b->config->getTimingCache();
        std::unique_ptr<IHostMemory> memory(cache ? cache->serialize() : nullptr);
        if (!memory) return b->library->fail(call, kRefused, "no timing cache");
        *out = new Bytes{std::move(memory)};
        return kOk;
#endif
    });
}

int32_t build(Builder* b, ProgressFunction function, void* user, Bytes** out) noexcept
{
    return guarded(b->library, [&](Call& call) -> Status {
        b->progress.function = function;
        b->progress.user = user;
        b->progress.stopped = false;
        b->config->setProgressMonitor(&b->progress);
        std::unique_ptr<IHostMemory> memory(b->builder->buildSerializedNetwork(*b->network, *b->config));
        b->config->setProgressMonitor(nullptr);
        if (b->progress.stopped) return b->library->fail(call, kStopped, "stopped");
        if (!memory) return b->library->fail(call, kRefused, "no plan");
        *out = new Bytes{std::move(memory)};
        return kOk;
    });
}
void const* bytes_data(Bytes const* bytes) noexcept { return bytes->memory->data(); }
size_t bytes_size(Bytes const* bytes) noexcept { return bytes->memory->size(); }
void free_bytes(Bytes* bytes) noexcept { delete bytes; }

int32_t load(Library* library, void const* plan, size_t size, Engine** out) noexcept
{
    return guarded(library, [&](Call& call) -> Status {
        auto engine = std::unique_ptr<Engine>(new Engine{library, {}, {}, {}});
        engine->runtime.reset(
            made<IRuntime>(library->make_runtime(static_cast<ILogger*>(&Logger::one()), library->version)));
        if (!engine->runtime) return library->fail(call, kRefused, "no runtime");
        engine->engine.reset(engine->runtime->deserializeCudaEngine(plan, size));
        if (!engine->engine) return library->fail(call, kRefused, "no engine");
        *out = engine.release();
        return kOk;
    });
}
void free_engine(Engine* engine) noexcept { delete engine; }
int32_t engine_port_count(Engine const* engine) noexcept { return engine->engine->getNbIOTensors(); }
int32_t engine_port(Engine const* engine, int32_t at, Port* out, int32_t* is_input) noexcept
{
    char const* name = engine->engine->getIOTensorName(at);
    if (!name) return kRefused;
    describe(out, name, engine->engine->getTensorDataType(name), engine->engine->getTensorShape(name));
    *is_input = engine->engine->getTensorIOMode(name) == TensorIOMode::kINPUT;
    return kOk;
}

// `port` of the engine is to read or write at `address` on the GPU. The context comes with the first.
int32_t bind(Engine* engine, char const* port, void* address) noexcept
{
    return guarded(engine->library, [&](Call& call) -> Status {
        if (!engine->context) engine->context.reset(engine->engine->createExecutionContext());
        if (!engine->context) return engine->library->fail(call, kRefused, "no execution context");
        if (!engine->context->setTensorAddress(port, address)) return engine->library->fail(call, kRefused, "no such address");
        return kOk;
    });
}
// Puts one run in the stream; every port is bound.
int32_t enqueue(Engine* engine, void* stream) noexcept
{
    return guarded(engine->library, [&](Call& call) -> Status {
        if (!engine->context) return engine->library->fail(call, kRefused, "nothing is bound");
        if (!engine->context->enqueueV3(static_cast<cudaStream_t>(stream)))
            return engine->library->fail(call, kRefused, "not enqueued");
        return kOk;
    });
}

struct Functions {
    int32_t header_version;
    int32_t is_rtx;
    decltype(&open) open_;
    decltype(&close) close_;
    decltype(&last_error) last_error_;
    decltype(&parse) parse_;
    decltype(&free_builder) free_builder_;
    decltype(&port_count) port_count_;
    decltype(&port) port_;
    decltype(&limit_workspace) limit_workspace_;
    decltype(&set_target) set_target_;
    decltype(&set_timing_cache) set_timing_cache_;
    decltype(&timing_cache) timing_cache_;
    decltype(&build) build_;
    decltype(&bytes_data) bytes_data_;
    decltype(&bytes_size) bytes_size_;
    decltype(&free_bytes) free_bytes_;
    decltype(&load) load_;
    decltype(&free_engine) free_engine_;
    decltype(&engine_port_count) engine_port_count_;
    decltype(&engine_port) engine_port_;
    decltype(&bind) bind_;
    decltype(&enqueue) enqueue_;
};

constexpr Functions functions{
    NV_TENSORRT_VERSION, FAMILY_IS_RTX, open, close, last_error, parse, free_builder, port_count, port, limit_workspace,
    set_target, set_timing_cache, timing_cache, build, bytes_data, bytes_size, free_bytes, load, free_engine,
    engine_port_count, engine_port, bind, enqueue,
};

}  // namespace

extern "C" Functions const* WORDSIGHT_FAMILY() noexcept { return &functions; }
