//! What libtorch needs of the C library's allocator.

/// Lets the C library keep the memory that libtorch frees.
///
/// libtorch takes memory for the outputs of each layer and gives it back at once. From 128 KiB at the end of a heap on, the C
/// library returns that to the kernel, and each pass faults its pages in again: of 1024 states a call that was 40 % of the time.
/// To be called once, before there are other threads.
#[expect(unsafe_code, reason = "mallopt has no safe wrapper; it only sets numbers of the C library's own")]
pub fn keep_freed_memory() {
    const MOST_KEPT: libc::c_int = 256 << 20;
    const LARGEST_IN_HEAP: libc::c_int = 32 << 20;
    // SAFETY: mallopt takes two integers and has no other precondition.
    let set = unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, MOST_KEPT) & libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST_IN_HEAP)
    };
    if set != 1 {
        tracing::debug!("the C library's allocator can't be set; policies answer more slowly");
    }
}
