// A libcuda.so.1 for machines without a GPU: what wordsight calls of CUDA's driver, on the processor.
//
// Kernels are those of kernels.cu, compiled as C++; the PTX is not looked at. What is queued in a stream runs when
// somebody waits for it and not before, so that whoever forgets to wait reads old values, and whoever reuses or frees
// memory too early is found out. Memory has guards on both sides, which are checked when it is freed. As an Orin's
// driver, it has memory pools; it refuses threads without a context, and under capture whatever waits or copies from
// memory that is not pinned. WORDSIGHT_TEST_CUDA asks for what goes wrong (`asked_for`).
// Switching by longjmp between stacks is what it is for here, and what fortified builds forbid.
#undef _FORTIFY_SOURCE
#include <setjmp.h>
#include <ucontext.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace {

[[noreturn]] void die(char const* what)
{
    std::fprintf(stderr, "cuda_stand_in: %s\n", what);
    std::abort();
}

// A kernel's threads are fibers that take turns at __syncthreads().
struct Place {
    unsigned x, y, z;
};
Place gridDim, blockDim, blockIdx, threadIdx;

// A fiber is entered as a ucontext and then switched by _longjmp, which takes no system call.
struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    Place place;
    jmp_buf at_barrier;
    bool entered, done;
};
std::vector<Fiber> fibers;
size_t running;
jmp_buf scheduler;
std::function<void()> const* body;

void enter_fiber()
{
    (*body)();
    fibers[running].done = true;
    _longjmp(scheduler, 1);
}

void __syncthreads()
{
    if (_setjmp(fibers[running].at_barrier) == 0) _longjmp(scheduler, 1);
}

void resume(Fiber& fiber)
{
    if (_setjmp(scheduler) != 0) return;
    if (fiber.entered) _longjmp(fiber.at_barrier, 1);
    fiber.entered = true;
    setcontext(&fiber.context);
}

void run_block(std::function<void()> const& function, bool has_barriers)
{
    size_t count = size_t(blockDim.x) * blockDim.y * blockDim.z;
    auto place = [](size_t at) {
        return Place{unsigned(at % blockDim.x), unsigned(at / blockDim.x % blockDim.y), unsigned(at / blockDim.x / blockDim.y)};
    };
    if (!has_barriers) {
        for (size_t at = 0; at < count; ++at) {
            threadIdx = place(at);
            function();
        }
        return;
    }
    body = &function;
    if (fibers.size() < count) fibers.resize(count);
    for (size_t at = 0; at < count; ++at) {
        Fiber& fiber = fibers[at];
        fiber.stack.resize(1 << 16);
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        fiber.context.uc_link = nullptr;
        fiber.place = place(at);
        fiber.entered = fiber.done = false;
        makecontext(&fiber.context, enter_fiber, 0);
    }
    // Each goes on to its next barrier before any goes past it.
    for (size_t left = count; left > 0;) {
        size_t ended = 0;
        for (size_t at = 0; at < count; ++at) {
            if (fibers[at].done) continue;
            running = at;
            threadIdx = fibers[at].place;
            resume(fibers[at]);
            ended += fibers[at].done;
        }
        if (ended != 0 && ended != left) die("some threads of a block end while others wait at a barrier");
        left -= ended;
    }
}

#define __device__ static
#define __global__
#define __shared__ static
#include "../src/gpu/kernels.cu"

struct Kernel {
    bool has_barriers;
    std::function<std::function<void()>(void** parameters)> bind;
};

template <class P> Kernel kernel(void (*function)(P), bool has_barriers)
{
    return {has_barriers, [function](void** parameters) {
                P copy = *static_cast<P*>(parameters[0]);
                return std::function<void()>([function, copy] { function(copy); });
            }};
}

std::map<std::string, Kernel> const& kernels()
{
    static std::map<std::string, Kernel> const all{
        {"letterbox_columns", kernel(letterbox_columns, false)},
        {"letterbox_rows", kernel(letterbox_rows, false)},
        {"similarities", kernel(similarities, true)},
        {"rank", kernel(rank, true)},
    };
    return all;
}

using Work = std::function<void()>;

// Of a captured graph.
struct Node {
    Work work;
    // What it launches, if that is a kernel, and with how many blocks and threads.
    Kernel const* kernel = nullptr;
    Place grid{}, block{};
};

struct Graph {
    std::vector<std::unique_ptr<Node>> nodes;
};

// A graph to be launched: what its nodes did when it was made of them, but for what was set since.
struct Exec {
    std::vector<Node*> of;
    std::vector<Work> work;
};

struct Event {
    bool reached = true;
    std::chrono::steady_clock::time_point at;
};

struct Stream {
    std::deque<Work> work;
    std::unique_ptr<Graph> capture;
    // By something that a capture can't have.
    bool is_invalid = false;

    void put(Node one)
    {
        if (capture) capture->nodes.push_back(std::make_unique<Node>(std::move(one)));
        else work.push_back(std::move(one.work));
    }
    void put(Work one) { put(Node{std::move(one)}); }
    void run_until(bool const* reached)
    {
        while (!work.empty() && !(reached && *reached)) {
            Work one = std::move(work.front());
            work.pop_front();
            one();
        }
    }
};

std::recursive_mutex guard;
Stream default_stream;
std::vector<Stream*> streams{&default_stream};

Stream* stream_of(void* handle) { return handle ? static_cast<Stream*>(handle) : &default_stream; }

std::map<void*, size_t> blocks;
// Those of them that the processor reads and writes.
std::map<void*, size_t> pinned;
constexpr size_t kGuard = 64;

void run_all()
{
    for (Stream* stream : streams) stream->run_until(nullptr);
}

void* reserve(size_t size)
{
    char* start = static_cast<char*>(std::malloc(size + 2 * kGuard));
    std::memset(start, 0xA5, size + 2 * kGuard);
    blocks[start + kGuard] = size;
    return start + kGuard;
}

int release(void* pointer)
{
    auto found = blocks.find(pointer);
    if (found == blocks.end()) die("memory is freed that was not reserved, or twice");
    char* start = static_cast<char*>(pointer) - kGuard;
    for (size_t at = 0; at < kGuard; ++at)
        if (start[at] != char(0xA5) || start[kGuard + found->second + at] != char(0xA5))
            die("memory was written outside of its bounds");
    // Whoever still reads it gets nothing of use.
    std::memset(start, 0xDD, found->second + 2 * kGuard);
    blocks.erase(found);
    std::free(start);
    return 0;
}

// Whether a range lies within one block.
void check(void const* pointer, size_t size)
{
    auto found = blocks.upper_bound(const_cast<void*>(pointer));
    if (found != blocks.begin()) {
        --found;
        char const* start = static_cast<char const*>(found->first);
        char const* at = static_cast<char const*>(pointer);
        if (at >= start && at + size <= start + found->second) return;
    }
    die("a copy reaches outside of the GPU's memory");
}

bool is_pinned(void const* pointer, size_t size)
{
    auto found = pinned.upper_bound(const_cast<void*>(pointer));
    if (found == pinned.begin()) return false;
    --found;
    char const* start = static_cast<char const*>(found->first);
    char const* at = static_cast<char const*>(pointer);
    return at >= start && at + size <= start + found->second;
}

// What WORDSIGHT_TEST_CUDA says, `no_pools=1 multiprocessors=16`:
//   no_pools        memory comes without pools
//   multiprocessors how many there are, 8 without it
//   no_cubin        machine code is for another GPU
//   no_jit          the driver's compiler for PTX is not installed
//   no_patch        from which call on a kernel of a graph can't be given other parameters
//   fails_after     calls that go well before a kernel's illegal access, after which nothing does
long asked_for(char const* name, long otherwise = 0)
{
    char const* told = std::getenv("WORDSIGHT_TEST_CUDA");
    std::string words = std::string(" ") + (told ? told : "");
    size_t at = words.find(" " + std::string(name) + "=");
    return at == std::string::npos ? otherwise : std::atol(words.c_str() + words.find('=', at) + 1);
}

// Where the last copy to the GPU came from.
void const* last_upload;

int context;
thread_local void* current;
long calls_until_failure = -1, asked_calls = -1;

// Why a call is refused, before it does anything: CUDA_ERROR_INVALID_CONTEXT, CUDA_ERROR_ILLEGAL_ADDRESS.
int refusal()
{
    if (!current) return 201;
    long asked = asked_for("fails_after", -1);
    if (asked != asked_calls) asked_calls = calls_until_failure = asked;
    if (asked < 0) return 0;
    if (calls_until_failure > 0) return --calls_until_failure, 0;
    for (Stream* stream : streams) stream->work.clear();
    return 700;
}

// CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, which the capture doesn't survive.
int not_in_a_capture(Stream* stream)
{
    if (!stream->capture) return 0;
    stream->is_invalid = true;
    return 900;
}

// A launch of a kernel. Nothing of it where it can't be: CUDA_ERROR_INVALID_VALUE.
std::unique_ptr<Node> launch(Kernel const* kernel, Place grid, Place block, void** parameters)
{
    if (!grid.x || !grid.y || !grid.z || !block.x || block.x * block.y * block.z > 1024 || !parameters) return nullptr;
    auto work = [=, bound = kernel->bind(parameters)] {
        gridDim = grid;
        blockDim = block;
        for (unsigned z = 0; z < grid.z; ++z)
            for (unsigned y = 0; y < grid.y; ++y)
                for (unsigned x = 0; x < grid.x; ++x) {
                    blockIdx = {x, y, z};
                    run_block(bound, kernel->has_barriers);
                }
    };
    return std::make_unique<Node>(Node{work, kernel, grid, block});
}

#ifndef CUDA_STAND_IN_OF_11
// The kernel behind a handle, if it is one.
Kernel const* kernel_of(void const* handle)
{
    for (auto const& one : kernels())
        if (&one.second == handle) return &one.second;
    return nullptr;
}
#endif

#define LOCKED std::lock_guard<std::recursive_mutex> locked(guard)
#define CALL \
    LOCKED; \
    if (int refused = refusal()) return refused

}  // namespace

extern "C" {

// A GPU that comes up late: as many calls fail as CUDA_STAND_IN_INIT_FAILS says, with CUDA_ERROR_UNKNOWN.
int cuInit(unsigned)
{
    LOCKED;
    static int left = [] {
        char const* fails = std::getenv("CUDA_STAND_IN_INIT_FAILS");
        return fails ? std::atoi(fails) : 0;
    }();
    return left > 0 ? --left, 999 : 0;
}
int cuDriverGetVersion(int* version) { return *version = 12060, 0; }
int cuDeviceGetCount(int* count) { return *count = 1, 0; }
int cuDeviceGet(int* device, int) { return *device = 0, 0; }
int cuDeviceGetName(char* name, int size, int) { return std::snprintf(name, size, "Orin"), 0; }
int cuDeviceGetAttribute(int* value, int which, int)
{
    switch (which) {
    case 75: *value = 8; break;  // compute capability 8.7
    case 76: *value = 7; break;
    case 16: *value = int(asked_for("multiprocessors", 8)); break;
    case 115: *value = !asked_for("no_pools"); break;
    default: *value = 0;
    }
    return 0;
}
int cuDevicePrimaryCtxRetain(void** out, int) { return *out = &context, 0; }
int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
int cuCtxGetCurrent(void** out) { return *out = current, 0; }
int cuCtxSetCurrent(void* to) { return current = to, 0; }
int cuGetErrorName(int, char const** out) { return *out = "CUDA_ERROR_STAND_IN", 0; }
int cuGetErrorString(int, char const** out) { return *out = "an error of the stand-in", 0; }

int cuStreamCreate(void** out, unsigned)
{
    CALL;
    auto* stream = new Stream;
    streams.push_back(stream);
    return *out = stream, 0;
}
int cuStreamDestroy_v2(void* handle)
{
    CALL;
    auto* stream = stream_of(handle);
    stream->run_until(nullptr);
    for (auto& known : streams)
        if (known == stream) std::swap(known, streams.back());
    streams.pop_back();
    delete stream;
    return 0;
}
int cuStreamSynchronize(void* handle)
{
    CALL;
    auto* stream = stream_of(handle);
    if (int refused = not_in_a_capture(stream)) return refused;
    stream->run_until(nullptr);
    return 0;
}
int cuCtxSynchronize() { CALL; return run_all(), 0; }
int cuStreamBeginCapture_v2(void* handle, int)
{
    CALL;
    stream_of(handle)->capture.reset(new Graph);
    stream_of(handle)->is_invalid = false;
    return 0;
}
int cuStreamEndCapture(void* handle, void** out)
{
    CALL;
    auto* stream = stream_of(handle);
    std::unique_ptr<Graph> captured = std::move(stream->capture);
    if (stream->is_invalid) return *out = nullptr, 901;
    return *out = captured.release(), 0;
}
int cuStreamIsCapturing(void* handle, int* status)
{
    CALL;
    return *status = stream_of(handle)->capture ? 1 : 0, 0;
}
int cuGraphInstantiateWithFlags(void** out, void* graph, unsigned long long)
{
    CALL;
    auto* exec = new Exec;
    for (auto const& node : static_cast<Graph*>(graph)->nodes) {
        exec->of.push_back(node.get());
        exec->work.push_back(node->work);
    }
    return *out = exec, 0;
}
int cuGraphLaunch(void* exec, void* stream)
{
    CALL;
    for (auto const& work : static_cast<Exec*>(exec)->work) stream_of(stream)->put(work);
    return 0;
}
int cuGraphDestroy(void* graph) { CALL; return delete static_cast<Graph*>(graph), 0; }
int cuGraphExecDestroy(void* exec) { CALL; return delete static_cast<Exec*>(exec), 0; }

int cuGraphGetNodes(void* graph, void** out, size_t* count)
{
    CALL;
    auto const& nodes = static_cast<Graph*>(graph)->nodes;
    for (size_t at = 0; out && at < nodes.size() && at < *count; ++at) out[at] = nodes[at].get();
    return *count = nodes.size(), 0;
}
// A kernel's, or a copy's for whatever else.
int cuGraphNodeGetType(void* node, unsigned* type) { CALL; return *type = static_cast<Node*>(node)->kernel ? 0 : 1, 0; }

#ifndef CUDA_STAND_IN_OF_11
struct NodeParameters {
    void* function;
    unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
    void** parameters;
    void** extra;
    void *kernel, *context;
};
int cuGraphKernelNodeGetParams_v2(void* handle, NodeParameters* out)
{
    CALL;
    auto const* node = static_cast<Node*>(handle);
    if (!node->kernel) return 1;
    auto const &grid = node->grid, &block = node->block;
    *out = {const_cast<Kernel*>(node->kernel), grid.x, grid.y, grid.z, block.x, block.y, block.z, 0, nullptr, nullptr, nullptr, nullptr};
    return 0;
}
// The next launch is the first with them.
int cuGraphExecKernelNodeSetParams_v2(void* handle, void* node, NodeParameters const* to)
{
    CALL;
    auto* exec = static_cast<Exec*>(handle);
    static long calls = 0;
    long refused_from = asked_for("no_patch");
    // CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE.
    if (refused_from && ++calls >= refused_from) return 910;
    size_t at = 0;
    while (at < exec->of.size() && exec->of[at] != node) ++at;
    // A node of another graph, one that is no kernel's, another kind of parameters: CUDA_ERROR_INVALID_VALUE.
    if (at == exec->of.size() || !exec->of[at]->kernel || to->extra) return 1;
    // CUDA_ERROR_INVALID_HANDLE.
    auto const* kernel = kernel_of(to->function);
    if (!kernel) return 400;
    auto changed = launch(kernel, {to->grid_x, to->grid_y, to->grid_z}, {to->block_x, to->block_y, to->block_z}, to->parameters);
    if (!changed) return 1;
    return exec->work[at] = changed->work, 0;
}
#endif

int cuEventCreate(void** out, unsigned) { CALL; return *out = new Event, 0; }
int cuEventDestroy_v2(void* event) { CALL; return run_all(), delete static_cast<Event*>(event), 0; }
int cuEventRecord(void* handle, void* stream)
{
    CALL;
    auto* event = static_cast<Event*>(handle);
    event->reached = false;
    stream_of(stream)->put([event] {
        event->reached = true;
        event->at = std::chrono::steady_clock::now();
    });
    return 0;
}
int cuEventSynchronize(void* handle)
{
    CALL;
    auto* event = static_cast<Event*>(handle);
    for (Stream* stream : streams) stream->run_until(&event->reached);
    return event->reached ? 0 : 600;
}
// Only an event that was reached already is waited for here.
int cuStreamWaitEvent(void*, void* handle, unsigned)
{
    CALL;
    return cuEventSynchronize(handle);
}
int cuEventElapsedTime(float* out, void* first, void* last)
{
    CALL;
    auto between = static_cast<Event*>(last)->at - static_cast<Event*>(first)->at;
    return *out = std::chrono::duration<float, std::milli>(between).count(), 0;
}
int cuEventQuery(void* handle) { CALL; return static_cast<Event*>(handle)->reached ? 0 : 600; }

int cuMemAlloc_v2(uint64_t* out, size_t size)
{
    CALL;
    return *out = reinterpret_cast<uint64_t>(reserve(size)), 0;
}
int cuMemAllocAsync(uint64_t* out, size_t size, void* stream)
{
    CALL;
    if (int refused = not_in_a_capture(stream_of(stream))) return refused;
    return *out = reinterpret_cast<uint64_t>(reserve(size)), 0;
}
int cuMemFreeAsync(uint64_t pointer, void* stream)
{
    CALL;
    if (int refused = not_in_a_capture(stream_of(stream))) return refused;
    // It is free when the stream has come by.
    stream_of(stream)->put([=] { release(reinterpret_cast<void*>(pointer)); });
    return 0;
}
int cuMemFree_v2(uint64_t pointer)
{
    CALL;
    // CUDA waits here too.
    run_all();
    return release(reinterpret_cast<void*>(pointer));
}
int cuMemHostAlloc(void** out, size_t size, unsigned)
{
    CALL;
    *out = reserve(size);
    pinned[*out] = size;
    return 0;
}
int cuMemFreeHost(void* pointer) { CALL; return run_all(), pinned.erase(pointer), release(pointer); }
int cuMemsetD8Async(uint64_t pointer, unsigned char value, size_t size, void* stream)
{
    CALL;
    stream_of(stream)->put([=] {
        check(reinterpret_cast<void*>(pointer), size);
        std::memset(reinterpret_cast<void*>(pointer), value, size);
    });
    return 0;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, void const* from, size_t size, void* stream)
{
    CALL;
    if (!is_pinned(from, size))
        if (int refused = not_in_a_capture(stream_of(stream))) return refused;
    stream_of(stream)->put([=] {
        check(reinterpret_cast<void*>(to), size);
        std::memcpy(reinterpret_cast<void*>(to), from, size);
        last_upload = from;
    });
    return 0;
}
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t size, void* stream)
{
    CALL;
    if (!is_pinned(to, size))
        if (int refused = not_in_a_capture(stream_of(stream))) return refused;
    stream_of(stream)->put([=] {
        check(reinterpret_cast<void*>(from), size);
        std::memcpy(to, reinterpret_cast<void*>(from), size);
    });
    return 0;
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, void* stream)
{
    CALL;
    stream_of(stream)->put([=] {
        check(reinterpret_cast<void*>(to), size);
        check(reinterpret_cast<void*>(from), size);
        std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), size);
    });
    return 0;
}

int cuModuleLoadData(void** out, void const* image)
{
    CALL;
    bool is_machine_code = std::memcmp(image, "\177ELF", 4) == 0;
    // CUDA_ERROR_NO_BINARY_FOR_GPU, CUDA_ERROR_JIT_COMPILER_NOT_FOUND.
    if (is_machine_code && asked_for("no_cubin")) return 209;
    if (!is_machine_code && asked_for("no_jit")) return 221;
    return *out = &context, 0;
}
int cuModuleUnload(void*) { CALL; return 0; }
int cuModuleGetFunction(void** out, void*, char const* name)
{
    CALL;
    auto found = kernels().find(name);
    if (found == kernels().end()) return 500;
    return *out = const_cast<Kernel*>(&found->second), 0;
}
int cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
    unsigned block_y, unsigned block_z, unsigned, void* stream, void** parameters, void**)
{
    CALL;
    auto node = launch(static_cast<Kernel*>(function), {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, parameters);
    if (!node) return 1;
    return stream_of(stream)->put(std::move(*node)), 0;
}

// Of no driver: for tests.
void const* wordsight_test_last_upload() { LOCKED; return last_upload; }

}  // extern "C"
