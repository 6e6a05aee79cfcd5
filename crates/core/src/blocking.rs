//! Work that takes long enough to hold up other requests.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Bytes of JSON whose copying, printing or parsing takes well below a millisecond.
pub const INLINE_BYTES: usize = 64 << 10;

/// Do work over `bytes` bytes. Where that may take over a millisecond, the thread's other tasks are given to another thread
/// first. A runtime with one thread only (some tests) has none to give them to.
pub fn in_place<R>(bytes: usize, work: impl FnOnce() -> R) -> R {
    let threads = Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if bytes > INLINE_BYTES && threads { tokio::task::block_in_place(work) } else { work() }
}
