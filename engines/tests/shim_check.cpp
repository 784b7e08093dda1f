// Walks through the shim as the Rust side does, every error path that needs no GPU included. Built with sanitizers by
// scripts/check-shim; exits with 0 when everything answered as it should.
//
//   shim_check LIBTENSORRT_RTX LIBPARSER MODEL.onnx
#include "../src/tensorrt/shim.cpp"

#include <dlfcn.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <vector>

namespace {

void require(bool holds, char const* what)
{
    if (holds) return;
    std::cerr << "shim_check: " << what << "\n";
    std::exit(1);
}

void* symbol(char const* path, char const* name)
{
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    require(library, path);
    void* found = dlsym(library, name);
    require(found, name);
    return found;
}

void quiet(int32_t, char const*) {}

int32_t count_steps(void* user, char const*, int32_t, int32_t)
{
    ++*static_cast<int*>(user);
    return 1;
}

int32_t stop(void*, char const*, int32_t, int32_t) { return 0; }

}  // namespace

int main(int argc, char** argv)
{
    require(argc == 4, "usage: shim_check LIBTENSORRT_RTX LIBPARSER MODEL.onnx");
    std::ifstream file(argv[3], std::ios::binary);
    std::vector<char> model((std::istreambuf_iterator<char>(file)), {});
    auto const* shim = WORDSIGHT_FAMILY();
    auto builder_factory = reinterpret_cast<Factory>(symbol(argv[1], "createInferBuilder_INTERNAL"));
    auto runtime_factory = reinterpret_cast<Factory>(symbol(argv[1], "createInferRuntime_INTERNAL"));
    auto parser_factory = reinterpret_cast<ParserFactory>(symbol(argv[2], "createNvOnnxParser_INTERNAL"));

    Builder* builder = nullptr;
    Library* lean = shim->open_(nullptr, runtime_factory, nullptr, NV_TENSORRT_VERSION, quiet);
    require(shim->parse_(lean, model.data(), model.size(), &builder) == kUnsupported, "a lean runtime builds nothing");
    shim->close_(lean);

    Library* library = shim->open_(builder_factory, runtime_factory, parser_factory, NV_TENSORRT_VERSION, quiet);
    require(shim->parse_(library, "none", 4, &builder) == kNotAModel, "four letters are no model");
    require(*shim->last_error_(library), "an error has words");
    require(shim->parse_(library, model.data(), model.size() / 2, &builder) == kNotAModel, "half a model is none");

    require(shim->parse_(library, model.data(), model.size(), &builder) == kOk, "the model is understood");
    require(shim->port_count_(builder, 0) == 1 && shim->port_count_(builder, 1) == 4, "one input, four outputs");
    Port port{};
    require(shim->port_(builder, 0, 0, &port) == kOk && port.element_type == kU8, "bytes go in");
    require(shim->port_(builder, 1, 99, &port) == kRefused, "there is no hundredth output");
    shim->limit_workspace_(builder, uint64_t{256} << 20);
    require(shim->set_target_(builder, 12345) == kRefused, "there is no such GPU");
    require(shim->set_target_(builder, 89) == kOk, "8.9 is one that it builds for");
    require(shim->set_timing_cache_(builder, nullptr, 0) == kUnsupported, "RTX has no timing cache");
    Bytes* bytes = nullptr;
    require(shim->timing_cache_(builder, &bytes) == kUnsupported, "RTX has no timing cache to keep");
    int steps = 0;
    require(shim->build_(builder, count_steps, &steps, &bytes) == kOk, "a plan comes out");
    require(shim->bytes_size_(bytes) > 1000, "a plan has a size");

    Engine* engine = nullptr;
    auto const* plan = static_cast<char const*>(shim->bytes_data_(bytes));
    int32_t loaded = shim->load_(library, plan, shim->bytes_size_(bytes), &engine);
    if (loaded == kOk) {  // only where a GPU is
        int32_t is_input = 0;
        require(shim->engine_port_count_(engine) == 5, "five ports");
        require(shim->engine_port_(engine, 0, &port, &is_input) == kOk, "a port is described");
        shim->free_engine_(engine);
    } else {
        require(*shim->last_error_(library), "a refusal has words");
        std::cout << "no GPU: the plan was built and not loaded\n";
    }
    require(shim->load_(library, plan, shim->bytes_size_(bytes) / 2, &engine) != kOk, "half a plan is refused");
    require(shim->load_(library, "none", 4, &engine) != kOk, "four letters are refused");
    shim->free_bytes_(bytes);
    shim->free_builder_(builder);

    require(shim->parse_(library, model.data(), model.size(), &builder) == kOk, "and once more");
    require(shim->set_target_(builder, 89) == kOk, "for 8.9");
    int32_t stopped = shim->build_(builder, stop, nullptr, &bytes);
    // A build without a single step of progress can't be stopped.
    if (stopped == kOk) shim->free_bytes_(bytes);
    require(stopped == (steps ? kStopped : kOk), "it stops when it is told to");
    std::cout << steps << " steps of progress\n";
    shim->free_builder_(builder);
    shim->close_(library);
    return 0;
}
