//! Memory that the values of all driven runs take together. A run draws its share before it loads or computes values, and
//! one that can't get more is saved and taken up again later, so that many large runs follow each other.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Unit of the shares. What a run takes below a whole unit is not counted, so that small runs draw nothing.
const UNIT: usize = 64 << 10;

/// Memory that is not in use.
#[derive(Clone)]
pub struct ValueMemory {
    units: Arc<Semaphore>,
    /// Units in total. A run that needs more than all gets all.
    total: u32,
}

/// Share of a run. Freed when dropped.
#[derive(Default)]
pub struct MemoryShare(Option<OwnedSemaphorePermit>);

impl ValueMemory {
    /// Create a memory of this many MiB.
    pub fn new(mebibytes: usize) -> Self {
        let total = u32::try_from(mebibytes.saturating_mul((1 << 20) / UNIT)).unwrap_or(u32::MAX);
        let total = total.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self { units: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Return the units that `share` lacks for `bytes` bytes.
    fn lacking(&self, share: &MemoryShare, bytes: usize) -> u32 {
        let wanted = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).min(self.total);
        let held = share.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        wanted.saturating_sub(u32::try_from(held).unwrap_or(u32::MAX))
    }

    /// Extend `share` to `bytes` bytes if that much is free. Returns whether it has them.
    pub fn try_grow(&self, share: &mut MemoryShare, bytes: usize) -> bool {
        let lacking = self.lacking(share, bytes);
        if lacking == 0 {
            return true;
        }
        let permit = self.units.clone().try_acquire_many_owned(lacking).ok();
        permit.map(|permit| share.add(permit)).is_some()
    }

    /// Extend `share` to `bytes` bytes, waiting in turn. Cancel-safe.
    pub async fn grow(&self, share: &mut MemoryShare, bytes: usize) {
        let lacking = self.lacking(share, bytes);
        if lacking > 0
            && let Ok(permit) = self.units.clone().acquire_many_owned(lacking).await
        {
            share.add(permit);
        }
    }
}

impl MemoryShare {
    fn add(&mut self, permit: OwnedSemaphorePermit) {
        match &mut self.0 {
            Some(held) => held.merge(permit),
            None => self.0 = Some(permit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn shares_together_never_exceed_the_memory() {
        let memory = ValueMemory::new(1);
        let (mut first, mut second, mut small) =
            (MemoryShare::default(), MemoryShare::default(), MemoryShare::default());
        assert!(memory.try_grow(&mut first, 600 << 10) && memory.try_grow(&mut first, 700 << 10));
        assert!(!memory.try_grow(&mut second, 500 << 10));
        assert!(memory.try_grow(&mut small, UNIT - 1), "small runs need no share");
        let waiting = async {
            memory.grow(&mut second, 500 << 10).await;
            memory.try_grow(&mut second, 500 << 10)
        };
        let (has_memory, ()) = tokio::join!(waiting, async { drop(first) });
        assert!(has_memory);
        // More than there is: all of it, once it is free.
        let mut whole = MemoryShare::default();
        assert!(!memory.try_grow(&mut whole, usize::MAX));
        drop(second);
        assert!(memory.try_grow(&mut whole, usize::MAX) && memory.try_grow(&mut whole, usize::MAX));
    }
}
