//! Settings of the C library's allocator for libtorch.

/// Keep memory that libtorch frees inside the process.
///
/// libtorch allocates the outputs of each layer and frees them at once. Above 128 KiB the C library returns such memory
/// to the kernel, and each forward pass faults its pages in again: with 1024 states a call that took 40 % of the time.
/// Call it once, before other threads exist.
#[expect(unsafe_code, reason = "mallopt has no safe wrapper; it only sets numbers of the C library's own")]
pub fn keep_freed_memory() {
    const MAX_RETAINED_BYTES: libc::c_int = 256 << 20;
    const MAX_HEAP_ALLOCATION_BYTES: libc::c_int = 32 << 20;
    // SAFETY: mallopt takes two integers and has no other precondition.
    let set = unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, MAX_RETAINED_BYTES)
            & libc::mallopt(libc::M_MMAP_THRESHOLD, MAX_HEAP_ALLOCATION_BYTES)
    };
    if set != 1 {
        tracing::debug!("the C library's allocator cannot be configured; inference is slower");
    }
}
