//! Who waits for which stream in this process. The database has the events; this only wakes readers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

type Streams = Arc<Mutex<HashMap<String, watch::Sender<u64>>>>;

/// Wakes the readers of a stream after each commit that appended to it. Cheap to clone.
#[derive(Clone, Default)]
pub struct Hub(Streams);

/// A reader's place; dropping it gives the place back.
pub struct Subscription {
    stream: String,
    receiver: Option<watch::Receiver<u64>>,
    streams: Streams,
}

impl Hub {
    /// Take a place before reading what is there, so that nothing falls between the two.
    pub fn subscribe(&self, stream: &str) -> Subscription {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = streams.entry(stream.to_owned()).or_insert_with(|| watch::channel(0).0);
        Subscription { stream: stream.to_owned(), receiver: Some(sender.subscribe()), streams: self.0.clone() }
    }

    /// Something was appended to `stream`.
    pub fn wake(&self, stream: &str) {
        let streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = streams.get(stream) {
            sender.send_modify(|count| *count += 1);
        }
    }
}

impl Subscription {
    /// Until the stream is woken; at once if it was since the last call.
    pub async fn woken(&mut self) {
        if let Some(receiver) = &mut self.receiver
            && receiver.changed().await.is_err()
        {
            // The sender lives in the map while a subscription does.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.receiver = None;
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if streams.get(&self.stream).is_some_and(|sender| sender.receiver_count() == 0) {
            streams.remove(&self.stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wake_between_subscribing_and_waiting_is_not_lost() {
        let hub = Hub::default();
        let mut reader = hub.subscribe("a");
        hub.wake("b");
        hub.wake("a");
        reader.woken().await;
        drop(reader);
        assert!(hub.0.lock().unwrap().is_empty(), "nobody waits, nothing is kept");
    }
}
