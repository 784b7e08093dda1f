// A libnvinfer.so.10 for machines without a GPU, and under another name its libnvonnxparser.so.10: what wordsight calls
// of TensorRT 10, by the vtables of its headers. Every other place in those tables ends the process.
//
// A plan is the ports of a model and a hash of its bytes; running it copies numbers that follow from the hash. What is
// refused here TensorRT refuses too: a caller of newer headers, a plan of another version, a first run in a stream that
// is being captured, ports that were not bound. Where memory lacks, and which version it is, WORDSIGHT_TEST_TENSORRT
// says (`Demands`); what was built goes to the file that WORDSIGHT_TEST_TENSORRT_LOG names, line by line.
#include "slots.h"

#include <dlfcn.h>
#include <signal.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace nvinfer1;

[[noreturn]] void die(char const* what)
{
    std::fprintf(stderr, "tensorrt stand-in: %s\n", what);
    std::abort();
}

// `version=100300 fails_above=256`: each a number, 0 where it isn't told.
struct Demands {
    long version = 100300;
    long fails_above = 0;    // MiB of workspace above which a build finds no room
    long killed_above = 0;   // and above which the system kills it
    long refuses_plans = 0;  // whether plans are refused though they fit
    long no_context = 0;     // whether there is no room to run one
    long no_int8 = 0;        // whether a layer in integers has no kernel

    Demands()
    {
        char const* told = std::getenv("WORDSIGHT_TEST_TENSORRT");
        std::istringstream words(told ? told : "");
        for (std::string word; words >> word;) {
            std::string name = word.substr(0, word.find('='));
            long value = std::atol(word.substr(word.find('=') + 1).c_str());
            if (name == "version") version = value;
            else if (name == "fails_above") fails_above = value;
            else if (name == "killed_above") killed_above = value;
            else if (name == "refuses_plans") refuses_plans = value;
            else if (name == "no_context") no_context = value;
            else if (name == "no_int8") no_int8 = value;
            else die(("WORDSIGHT_TEST_TENSORRT: " + word).c_str());
        }
    }
};

void record(std::string const& line)
{
    if (char const* path = std::getenv("WORDSIGHT_TEST_TENSORRT_LOG")) std::ofstream(path, std::ios::app) << line << "\n";
}

// TensorRT keeps one logger for all that lives at one time, the first.
ILogger* logger;
int logger_users;

void say(ILogger::Severity severity, std::string const& words) { logger->log(severity, words.c_str()); }

struct LoggerUser {
    explicit LoggerUser(ILogger* given)
    {
        if (logger_users++ == 0) logger = given;
        else if (logger != given)
            say(ILogger::Severity::kWARNING,
                "The logger passed into createInferRuntime differs from one already provided for an existing builder, "
                "runtime, or refitter. Uses of the global logger, returned by nvinfer1::getLogger(), will return the "
                "existing value.");
    }
    ~LoggerUser() { --logger_users; }
};

// A vtable of which only what wordsight calls leads anywhere.
void not_called() { die("a place of a vtable is called that wordsight calls nothing at"); }

struct Table {
    void* places[128];

    Table()
    {
        for (void*& place : places) place = reinterpret_cast<void*>(&not_called);
    }
    template <class Slot, class Ours> Table& with(Slot slot, Ours ours)
    {
        places[slot_of(slot)] = reinterpret_cast<void*>(ours);
        return *this;
    }
};

// What `mImpl` points to: a vtable, and whose it is. Members called through it come as functions whose first argument
// is this (the calling convention of both processors).
template <class T> struct Door {
    void* const* table;
    T* self;
};

struct Tensor final : ITensor {
    std::string name;
    DataType type{};
    Dims dims{};
    bool is_input{};
    Door<Tensor> door;

    Tensor() : door{table().places, this} { mImpl = reinterpret_cast<apiv::VTensor*>(&door); }
    static Table& table()
    {
        static Table made = Table()
            .with(&apiv::VTensor::getName, +[](Door<Tensor>* door) { return door->self->name.c_str(); })
            .with(&apiv::VTensor::getType, +[](Door<Tensor>* door) { return door->self->type; })
            .with(&apiv::VTensor::getDimensions, +[](Door<Tensor>* door) -> Dims { return door->self->dims; });
        return made;
    }
    size_t elements() const
    {
        size_t count = 1;
        for (int at = 0; at < dims.nbDims; ++at) count *= size_t(dims.d[at]);
        return count;
    }
    size_t bytes() const { return elements() * (type == DataType::kFLOAT ? 4 : type == DataType::kHALF ? 2 : 1); }
};
using Ports = std::vector<std::unique_ptr<Tensor>>;

struct Network final : INetworkDefinition {
    Ports inputs, outputs;
    uint64_t hash{};
    bool has_integers{};
    Door<Network> door;

    Network() : door{table().places, this} { mImpl = reinterpret_cast<apiv::VNetworkDefinition*>(&door); }
    static Table& table()
    {
        using V = apiv::VNetworkDefinition;
        auto at = [](Ports const& ports, int32_t at) -> ITensor* {
            return at >= 0 && size_t(at) < ports.size() ? ports[size_t(at)].get() : nullptr;
        };
        static auto const nth = at;
        static Table made = Table()
            .with(&V::getNbInputs, +[](Door<Network>* door) { return int32_t(door->self->inputs.size()); })
            .with(&V::getNbOutputs, +[](Door<Network>* door) { return int32_t(door->self->outputs.size()); })
            .with(&V::getInput, +[](Door<Network>* door, int32_t at) { return nth(door->self->inputs, at); })
            .with(&V::getOutput, +[](Door<Network>* door, int32_t at) { return nth(door->self->outputs, at); });
        return made;
    }
};

struct HostMemory final : IHostMemory {
    std::string bytes;
    Door<HostMemory> door;

    explicit HostMemory(std::string bytes) : bytes(std::move(bytes)), door{table().places, this}
    {
        mImpl = reinterpret_cast<apiv::VHostMemory*>(&door);
    }
    static Table& table()
    {
        static Table made = Table()
            .with(&apiv::VHostMemory::data, +[](Door<HostMemory>* door) -> void* { return door->self->bytes.data(); })
            .with(&apiv::VHostMemory::size, +[](Door<HostMemory>* door) { return door->self->bytes.size(); });
        return made;
    }
};

struct TimingCache final : ITimingCache {
    std::string bytes;
    Door<TimingCache> door;

    explicit TimingCache(std::string bytes) : bytes(std::move(bytes)), door{table().places, this}
    {
        mImpl = reinterpret_cast<apiv::VTimingCache*>(&door);
    }
    static Table& table()
    {
        static Table made = Table().with(&apiv::VTimingCache::serialize,
            +[](Door<TimingCache>* door) -> IHostMemory* { return new HostMemory(door->self->bytes); });
        return made;
    }
};

char const kTimed[] = "the stand-in's timing cache\n";

struct Config final : IBuilderConfig {
    size_t workspace = size_t(1) << 40;
    IProgressMonitor* monitor{};
    ITimingCache const* cache{};
    Door<Config> door;

    Config() : door{table().places, this} { mImpl = reinterpret_cast<apiv::VBuilderConfig*>(&door); }
    static Table& table()
    {
        using V = apiv::VBuilderConfig;
        static Table made = Table()
            .with(&V::setMemoryPoolLimit, +[](Door<Config>* door, MemoryPoolType pool, size_t bytes) {
                if (pool == MemoryPoolType::kWORKSPACE) door->self->workspace = bytes;
            })
            .with(&V::setProgressMonitor, +[](Door<Config>* door, IProgressMonitor* to) { door->self->monitor = to; })
            .with(&V::createTimingCache, +[](Door<Config>*, void const* bytes, size_t size) -> ITimingCache* {
                std::string of(static_cast<char const*>(bytes), size);
                if (of.empty() || of == kTimed) return new TimingCache(kTimed);
                say(ILogger::Severity::kERROR, "the timing cache is of another TensorRT");
                return nullptr;
            })
            .with(&V::setTimingCache, +[](Door<Config>* door, ITimingCache const& cache, bool) {
                door->self->cache = &cache;
                return true;
            })
            .with(&V::getTimingCache, +[](Door<Config>* door) { return door->self->cache; });
        return made;
    }
};

// As TensorRT, it tells of what it does while it does it.
bool go_on(IProgressMonitor* monitor)
{
    if (!monitor) return true;
    if (std::string_view(monitor->getInterfaceInfo().kind) != "IProgressMonitor") die("this is no progress monitor");
    monitor->phaseStart("Building Engine", nullptr, 2);
    monitor->phaseStart("Timing", "Building Engine", 1);
    bool goes = monitor->stepComplete("Timing", 0);
    monitor->phaseFinish("Timing");
    for (int step = 0; step < 2; ++step) goes = goes && monitor->stepComplete("Building Engine", step);
    monitor->phaseFinish("Building Engine");
    return goes;
}

void write(std::ostream& plan, Tensor const& port)
{
    plan << port.is_input << " " << port.name << " " << int(port.type) << " " << port.dims.nbDims;
    for (int at = 0; at < port.dims.nbDims; ++at) plan << " " << port.dims.d[at];
    plan << "\n";
}

IHostMemory* build(Network const& network, Config const& config)
{
    Demands demands;
    long mib = long(config.workspace >> 20);
    record("build workspace_mib=" + std::to_string(mib));
    if (demands.killed_above && mib > demands.killed_above) raise(SIGKILL);
    if (!go_on(config.monitor)) return nullptr;
    if ((demands.fails_above && mib > demands.fails_above) || (demands.no_int8 && network.has_integers)) {
        say(ILogger::Severity::kERROR,
            "[optimizer.cpp::computeCosts::4048] Error Code 10: Internal Error (Could not find any implementation for node "
            "{ForeignNode[stem]}.)");
        return nullptr;
    }
    std::ostringstream plan;
    plan << "wordsight-stand-in " << demands.version << " " << network.hash << " "
         << network.inputs.size() + network.outputs.size() << "\n";
    for (auto const& port : network.inputs) write(plan, *port);
    for (auto const& port : network.outputs) write(plan, *port);
    return new HostMemory(plan.str());
}

struct Builder final : IBuilder {
    LoggerUser user;
    Door<Builder> door;

    explicit Builder(ILogger* given) : user(given), door{table().places, this}
    {
        mImpl = reinterpret_cast<apiv::VBuilder*>(&door);
    }
    static Table& table()
    {
        using V = apiv::VBuilder;
        static Table made = Table()
            .with(&V::createBuilderConfig, +[](Door<Builder>*) -> IBuilderConfig* { return new Config; })
            .with(&V::createNetworkV2, +[](Door<Builder>*, uint32_t flags) -> INetworkDefinition* {
                if (flags != 1U << int(NetworkDefinitionCreationFlag::kSTRONGLY_TYPED)) die("the network is weakly typed");
                return new Network;
            })
            .with(&V::buildSerializedNetwork, +[](Door<Builder>*, INetworkDefinition& network, IBuilderConfig& config) {
                return build(static_cast<Network&>(network), static_cast<Config&>(config));
            });
        return made;
    }
};

// What is called of CUDA's driver, which the program has loaded.
void* symbol(char const* name)
{
    static void* library = dlopen("libcuda.so.1", RTLD_NOW);
    void* found = library ? dlsym(library, name) : nullptr;
    if (!found) die("there is no driver");
    return found;
}
template <class F> F driver(char const* name)
{
    // CUDA's runtime, which TensorRT goes by, makes the first GPU's primary context a thread's own.
    void* context{};
    reinterpret_cast<int (*)(void**)>(symbol("cuCtxGetCurrent"))(&context);
    if (!context) {
        reinterpret_cast<int (*)(void**, int)>(symbol("cuDevicePrimaryCtxRetain"))(&context, 0);
        reinterpret_cast<int (*)(void*)>(symbol("cuCtxSetCurrent"))(context);
    }
    return reinterpret_cast<F>(symbol(name));
}
using Address = unsigned long long;

Address to_gpu(std::string const& bytes)
{
    Address at{};
    if (driver<int (*)(Address*, size_t)>("cuMemAlloc_v2")(&at, bytes.size()) != 0) return 0;
    driver<int (*)(Address, void const*, size_t, void*)>("cuMemcpyHtoDAsync_v2")(at, bytes.data(), bytes.size(), nullptr);
    driver<int (*)(void*)>("cuStreamSynchronize")(nullptr);
    return at;
}

// What a model of that hash finds, whatever it is shown. Rows of embeddings have one 1, at a place that the hash says.
std::string found_by(Tensor const& port, uint64_t hash)
{
    size_t columns = port.dims.nbDims > 1 ? size_t(port.dims.d[port.dims.nbDims - 1]) : 1;
    std::vector<float> values(port.elements());
    for (size_t at = 0; at < values.size(); ++at) {
        size_t row = at / columns, column = at % columns;
        if (port.name == "objectness") values[at] = 1.0F / float(row + 1);
        else if (port.name == "boxes") values[at] = float(row + (column < 2 ? 0 : 10));
        else values[at] = column == (hash + row) % columns ? 1.0F : 0.0F;
    }
    return {reinterpret_cast<char const*>(values.data()), 4 * values.size()};
}

struct Engine;

struct Context final : IExecutionContext {
    Engine const& engine;
    std::map<std::string, Address> bound, found;
    Address seen{};
    bool has_run{};
    Door<Context> door;

    explicit Context(Engine const& engine);
    ~Context() override
    {
        auto free = driver<int (*)(Address)>("cuMemFree_v2");
        for (auto const& [name, at] : found) free(at);
        free(seen);
    }
    bool run(void* stream);
    static Table& table()
    {
        using V = apiv::VExecutionContext;
        static Table made = Table()
            .with(&V::setTensorAddress, +[](Door<Context>* door, char const* name, void* address) {
                door->self->bound[name] = reinterpret_cast<Address>(address);
                return true;
            })
            .with(&V::enqueueV3, +[](Door<Context>* door, cudaStream_t stream) { return door->self->run(stream); });
        return made;
    }
};

struct Engine final : ICudaEngine {
    Ports ports;
    uint64_t hash{};
    Door<Engine> door;

    Engine() : door{table().places, this} { mImpl = reinterpret_cast<apiv::VCudaEngine*>(&door); }
    Tensor const& named(char const* name) const
    {
        for (auto const& port : ports)
            if (port->name == name) return *port;
        die("a port is asked for that there is none of");
    }
    static Table& table()
    {
        using V = apiv::VCudaEngine;
        static Table made = Table()
            .with(&V::getNbIOTensors, +[](Door<Engine>* door) { return int32_t(door->self->ports.size()); })
            .with(&V::getIOTensorName, +[](Door<Engine>* door, int32_t at) {
                return door->self->ports[size_t(at)]->name.c_str();
            })
            .with(&V::getTensorShape, +[](Door<Engine>* door, char const* name) -> Dims {
                return door->self->named(name).dims;
            })
            .with(&V::getTensorDataType, +[](Door<Engine>* door, char const* name) { return door->self->named(name).type; })
            .with(&V::getTensorIOMode, +[](Door<Engine>* door, char const* name) {
                return door->self->named(name).is_input ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
            })
            .with(&V::createExecutionContext,
                +[](Door<Engine>* door, ExecutionContextAllocationStrategy) -> IExecutionContext* {
                    if (Demands().no_context) {
                        say(ILogger::Severity::kERROR, "Error Code 2: OutOfMemory (Requested size was 104857600 bytes.)");
                        return nullptr;
                    }
                    return new Context(*door->self);
                });
        return made;
    }
};

Context::Context(Engine const& engine) : engine(engine), door{table().places, this}
{
    mImpl = reinterpret_cast<apiv::VExecutionContext*>(&door);
    for (auto const& port : engine.ports) {
        if (port->is_input) seen = to_gpu(std::string(port->bytes(), 0));
        else found[port->name] = to_gpu(found_by(*port, engine.hash));
    }
}

bool Context::run(void* stream)
{
    for (auto const& port : engine.ports)
        if (!bound.count(port->name)) {
            say(ILogger::Severity::kERROR, "Error Code 3: API Usage Error (Neither address or allocator is set for " + port->name + ")");
            return false;
        }
    int capturing{};
    driver<int (*)(void*, int*)>("cuStreamIsCapturing")(stream, &capturing);
    if (!has_run && capturing) {
        say(ILogger::Severity::kERROR, "Error Code 1: Cuda Runtime (operation not permitted when stream is capturing)");
        return false;
    }
    has_run = true;
    record("run capturing=" + std::to_string(capturing));
    auto copy = driver<int (*)(Address, Address, size_t, void*)>("cuMemcpyDtoDAsync_v2");
    for (auto const& port : engine.ports) {
        Address to = bound[port->name];
        if (port->is_input) copy(seen, to, port->bytes(), stream);
        else copy(to, found[port->name], port->bytes(), stream);
    }
    return true;
}

ICudaEngine* read(std::string const& bytes)
{
    Demands demands;
    std::istringstream plan(bytes);
    std::string kind;
    long version{};
    size_t ports{};
    auto engine = std::make_unique<Engine>();
    if (!(plan >> kind >> version >> engine->hash >> ports) || kind != "wordsight-stand-in") {
        say(ILogger::Severity::kERROR, "Error Code 1: Serialization (Magic tag does not match)");
        return nullptr;
    }
    if (version != demands.version || demands.refuses_plans) {
        say(ILogger::Severity::kERROR, "Error Code 1: Serialization (Version tag does not match)");
        return nullptr;
    }
    for (size_t at = 0; at < ports; ++at) {
        auto port = std::make_unique<Tensor>();
        int type{};
        if (!(plan >> port->is_input >> port->name >> type >> port->dims.nbDims)) return nullptr;
        port->type = DataType(type);
        for (int dim = 0; dim < port->dims.nbDims; ++dim) plan >> port->dims.d[dim];
        engine->ports.push_back(std::move(port));
    }
    return plan ? engine.release() : nullptr;
}

struct Runtime final : IRuntime {
    LoggerUser user;
    Door<Runtime> door;

    explicit Runtime(ILogger* given) : user(given), door{table().places, this}
    {
        mImpl = reinterpret_cast<apiv::VRuntime*>(&door);
    }
    static Table& table()
    {
        static Table made = Table().with(static_cast<DeserializeBytes>(&apiv::VRuntime::deserializeCudaEngine),
            +[](Door<Runtime>*, void const* plan, size_t size) {
                return read(std::string(static_cast<char const*>(plan), size));
            });
        return made;
    }
};

// As much of protocol buffers as a model's ports take.
struct Field {
    uint64_t number{}, value{};
    std::string_view bytes;
};

bool varint(std::string_view& rest, uint64_t* value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64 && !rest.empty(); shift += 7) {
        auto byte = static_cast<unsigned char>(rest.front());
        rest.remove_prefix(1);
        *value |= uint64_t(byte & 127U) << shift;
        if (byte < 128) return true;
    }
    return false;
}

bool next(std::string_view& rest, Field* field)
{
    uint64_t key{}, length{};
    *field = {};
    if (!varint(rest, &key)) return false;
    field->number = key >> 3;
    switch (key & 7) {
    case 0: return varint(rest, &field->value);
    case 1: length = 8; break;
    case 2:
        if (!varint(rest, &length)) return false;
        break;
    case 5: length = 4; break;
    default: return false;
    }
    if (length > rest.size()) return false;
    field->bytes = rest.substr(0, length);
    rest.remove_prefix(length);
    return true;
}

template <class F> bool for_each(std::string_view rest, F function)
{
    Field field;
    while (!rest.empty()) {
        if (!next(rest, &field)) return false;
        function(field);
    }
    return true;
}

// onnx.proto3: ValueInfoProto, TypeProto, TypeProto.Tensor, TensorShapeProto, each by the numbers of its fields.
std::unique_ptr<Tensor> port_of(std::string_view value_info, bool is_input)
{
    static std::map<uint64_t, DataType> const types{{1, DataType::kFLOAT}, {2, DataType::kUINT8}, {3, DataType::kINT8},
        {6, DataType::kINT32}, {7, DataType::kINT64}, {9, DataType::kBOOL}, {10, DataType::kHALF}};
    auto port = std::make_unique<Tensor>();
    port->is_input = is_input;
    for_each(value_info, [&](Field const& info) {
        if (info.number == 1) port->name = info.bytes;
        if (info.number != 2) return;
        for_each(info.bytes, [&](Field const& type) {
            if (type.number != 1) return;
            for_each(type.bytes, [&](Field const& tensor) {
                if (tensor.number == 1) port->type = types.at(tensor.value);
                if (tensor.number != 2) return;
                for_each(tensor.bytes, [&](Field const& dim) {
                    for_each(dim.bytes, [&](Field const& size) {
                        if (size.number == 1) port->dims.d[port->dims.nbDims++] = int64_t(size.value);
                    });
                });
            });
        });
    });
    return port;
}

struct ParserError final : nvonnxparser::IParserError {
    nvonnxparser::ErrorCode code() const override { die("code"); }
    char const* desc() const override { return "Failed to parse the model: it is none"; }
    char const* file() const override { die("file"); }
    int line() const override { die("line"); }
    char const* func() const override { die("func"); }
    int node() const override { return -1; }
    char const* nodeName() const override { die("nodeName"); }
    char const* nodeOperator() const override { die("nodeOperator"); }
    char const* const* localFunctionStack() const override { die("localFunctionStack"); }
    int32_t localFunctionStackSize() const override { die("localFunctionStackSize"); }
};

// The parser's interface has no `mImpl`: the compiler makes its vtable.
struct Parser final : nvonnxparser::IParser {
    Network& network;
    bool has_failed{};
    ParserError error;

    explicit Parser(Network& network) : network(network) {}
    bool parse(void const* model, size_t size, char const*) noexcept override
    {
        std::string_view bytes(static_cast<char const*>(model), size);
        bool is_model = for_each(bytes, [&](Field const& of_model) {
            if (of_model.number != 7) return;
            for_each(of_model.bytes, [&](Field const& of_graph) {
                if (of_graph.number == 1)
                    for_each(of_graph.bytes, [&](Field const& of_node) {
                        if (of_node.number == 4 && of_node.bytes == "QuantizeLinear") network.has_integers = true;
                    });
                if (of_graph.number == 11) network.inputs.push_back(port_of(of_graph.bytes, true));
                if (of_graph.number == 12) network.outputs.push_back(port_of(of_graph.bytes, false));
            });
        });
        network.hash = 14695981039346656037U;
        for (char byte : bytes) network.hash = (network.hash ^ static_cast<unsigned char>(byte)) * 1099511628211U;
        has_failed = !is_model || network.inputs.empty() || network.outputs.empty();
        return !has_failed;
    }
    int getNbErrors() const noexcept override { return has_failed ? 1 : 0; }
    nvonnxparser::IParserError const* getError(int) const noexcept override { return &error; }

    bool parseFromFile(char const*, int) noexcept override { die("parseFromFile"); }
    bool supportsModel(void const*, size_t, SubGraphCollection_t&, char const*) noexcept override { die("supportsModel"); }
    bool parseWithWeightDescriptors(void const*, size_t) noexcept override { die("parseWithWeightDescriptors"); }
    bool supportsOperator(char const*) const noexcept override { die("supportsOperator"); }
    void clearErrors() noexcept override { die("clearErrors"); }
    char const* const* getUsedVCPluginLibraries(int64_t&) const noexcept override { die("getUsedVCPluginLibraries"); }
    void setFlags(nvonnxparser::OnnxParserFlags) noexcept override { die("setFlags"); }
    nvonnxparser::OnnxParserFlags getFlags() const noexcept override { die("getFlags"); }
    void clearFlag(nvonnxparser::OnnxParserFlag) noexcept override { die("clearFlag"); }
    void setFlag(nvonnxparser::OnnxParserFlag) noexcept override { die("setFlag"); }
    bool getFlag(nvonnxparser::OnnxParserFlag) const noexcept override { die("getFlag"); }
    ITensor const* getLayerOutputTensor(char const*, int64_t) noexcept override { die("getLayerOutputTensor"); }
    bool supportsModelV2(void const*, size_t, char const*) noexcept override { die("supportsModelV2"); }
    int64_t getNbSubgraphs() noexcept override { die("getNbSubgraphs"); }
    bool isSubgraphSupported(int64_t) noexcept override { die("isSubgraphSupported"); }
    int64_t* getSubgraphNodes(int64_t, int64_t&) noexcept override { die("getSubgraphNodes"); }
    bool loadModelProto(void const*, size_t, char const*) noexcept override { die("loadModelProto"); }
    bool loadInitializer(char const*, void const*, size_t) noexcept override { die("loadInitializer"); }
    bool parseModelProto() noexcept override { die("parseModelProto"); }
    bool setBuilderConfig(IBuilderConfig const*) noexcept override { die("setBuilderConfig"); }
};

// A library serves callers whose headers are not newer.
template <class T> void* made_for(ILogger* given, int32_t version)
{
    long own = Demands().version;
    if (version <= own && version / 10000 == own / 10000) return static_cast<void*>(new T(given));
    given->log(ILogger::Severity::kINTERNAL_ERROR, "the caller was compiled against a newer TensorRT");
    return nullptr;
}

}  // namespace

extern "C" {

int32_t getInferLibVersion() noexcept { return int32_t(Demands().version); }
void* createInferBuilder_INTERNAL(void* given, int32_t version) noexcept
{
    return made_for<Builder>(static_cast<ILogger*>(given), version);
}
void* createInferRuntime_INTERNAL(void* given, int32_t version) noexcept
{
    return made_for<Runtime>(static_cast<ILogger*>(given), version);
}
void* createNvOnnxParser_INTERNAL(void* network, void*, int version) noexcept
{
    if (version != NV_ONNX_PARSER_VERSION) return nullptr;
    return new Parser(*static_cast<Network*>(static_cast<INetworkDefinition*>(network)));
}

}  // extern "C"
