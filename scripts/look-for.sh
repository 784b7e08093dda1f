# Sourced by scripts/setup and scripts/features: whether this machine has what cargo features are built with.

# libclang, which reads the kernel's headers for the feature `v4l2`.
has_libclang() {
    # Without a match a pattern stands for itself, and there is no such file.
    local library
    [ -z "${LIBCLANG_PATH:-}" ] || return 0
    for library in /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so*; do
        # libclang-cpp is another library, which comes with LLVM's tools and is of no use here.
        if [ -e "$library" ] && [[ $library != *libclang-cpp* ]]; then return 0; fi
    done
    return 1
}

has_kernel_headers() { [ -e /usr/include/linux/videodev2.h ]; }

# has_library NAME...: what pkg-config calls them.
has_library() { command -v pkg-config >/dev/null && pkg-config --exists "$@" 2>/dev/null; }
