//! Random numbers of AWS-LC.

use aws_lc_rs::rand::fill;
use tokio::sync::OnceCell;

/// Draw a first random number, before a transaction that needs some: AWS-LC then measures the processor's jitter, once for the process
/// and for tens of milliseconds, in which nobody else could write.
pub async fn prepare_randomness() {
    static PREPARED: OnceCell<()> = OnceCell::const_new();
    // Whoever needs random numbers reports a failure.
    let draw = async || drop(tokio::task::spawn_blocking(|| fill(&mut [0])).await);
    PREPARED.get_or_init(draw).await;
}
