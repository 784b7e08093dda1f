//! Cameras of the kernel.
