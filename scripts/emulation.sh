# Sourced by scripts/check-arm64 and scripts/check-images: what a program for aarch64 takes to run under QEMU's emulation
# of single programs.

# write_cpuinfo FILE: a /proc/cpuinfo. ONNX Runtime crashes on one that names no ARM processor.
write_cpuinfo() {
    local core
    for ((core = 0; core < $(nproc --all); core++)); do
        printf '%s\t: %s\n' processor "$core" \
            Features 'fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp' \
            'CPU implementer' 0x41 'CPU architecture' 8 'CPU variant' 0x3 'CPU part' 0xd0b 'CPU revision' 0
        echo
    done >"$1"
}

# emulated_processor QEMU: QEMU knows no Cortex-A78AE, Orin's; the A76 is its nearest elder, the A72 what QEMU before 7.1
# has.
emulated_processor() {
    if [[ $("$1" -cpu help) == *cortex-a76* ]]; then echo cortex-a76; else echo cortex-a72; fi
}
