//! Memory of the process, of which libtorch takes the most.

use std::fs;

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

/// Give back the memory that only the start needed: pages of code, most of them of libtorch's and our own initialisation, and what
/// the C library has freed. Code that is needed again is read from the page cache. Returns the bytes of code whose pages were
/// given back, those that were never resident included.
pub fn release_start_memory() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    // SAFETY: it only frees what is free already.
    #[expect(unsafe_code, reason = "malloc_trim has no safe wrapper")]
    unsafe {
        libc::malloc_trim(0);
    }
    code_ranges(&maps).filter(|&(begin, end)| forget_pages(begin, end)).map(|(begin, end)| end - begin).sum()
}

/// The addresses at which code is mapped from files: readable and executable, and never writable, so that each page is as the
/// file has it.
fn code_ranges(maps: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    maps.lines().filter_map(|line| {
        // Address, permissions, offset, device, inode, path.
        let mut parts = line.split_ascii_whitespace();
        let (begin, end) = parts.next()?.split_once('-')?;
        let is_code = parts.next()? == "r-xp" && parts.nth(3)?.starts_with('/');
        let address = |digits| usize::from_str_radix(digits, 16).ok();
        is_code.then_some((address(begin)?, address(end)?))
    })
}

#[expect(unsafe_code, reason = "madvise has no safe wrapper")]
fn forget_pages(begin: usize, end: usize) -> bool {
    let begin = std::ptr::with_exposed_provenance_mut(begin);
    let length = end - begin as usize;
    // SAFETY: the mapping is private, of a file, and was never written, so that the next access reads the same bytes from the file.
    // Libraries are never unloaded.
    unsafe { libc::madvise(begin, length, libc::MADV_DONTNEED) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_from_files_is_given_back() {
        let maps = "55d0-55e0 r--p 00000000 fe:00 12 /opt/agent-management\n\
                    55e0-5600 r-xp 00010000 fe:00 12 /opt/agent management\n\
                    5600-5610 rw-p 00030000 fe:00 12 /opt/agent-management\n\
                    5610-5620 rwxp 00030000 fe:00 12 /opt/agent-management\n\
                    7f00-7f10 r-xp 00000000 00:00 0\n\
                    7ff0-7fff r-xp 00000000 00:00 0                          [vdso]\n";
        assert_eq!(code_ranges(maps).collect::<Vec<_>>(), [(0x55e0, 0x5600)]);
    }

    #[test]
    fn code_runs_on_without_its_pages() {
        let words: Vec<String> = ["b", "a"].map(str::to_owned).to_vec();
        assert!(release_start_memory() > 1 << 20, "this program and libtorch have megabytes of code");
        let mut sorted = words.clone();
        sorted.sort();
        assert_eq!(sorted, ["a", "b"]);
    }
}
