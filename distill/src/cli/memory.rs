//! Keeps freed memory in the process during a long computation.

/// Has the allocator keep what is freed, for the next step.
///
/// Every step of a training asks for the same buffers of many megabytes, and glibc gives such ones back to the kernel as
/// soon as they are freed: the next step's are then cleared and mapped again, page by page, which is 10 to 20 % of the
/// whole time. Kept, they cost what they cost at their peak.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn keep_buffers() {
    // SAFETY: both only change how the allocator works from here on.
    let taken = unsafe { [libc::mallopt(libc::M_MMAP_MAX, 0), libc::mallopt(libc::M_TRIM_THRESHOLD, -1)] };
    if taken != [1; 2] {
        tracing::warn!("the allocator keeps no buffers, and training is slower: mallopt answered {taken:?}");
    }
}

/// Other allocators do as they do.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_buffers() {}
