//! Wakeups of the readers of streams in this process. The events themselves are in the database.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

type StreamSenders = Arc<Mutex<HashMap<String, watch::Sender<u64>>>>;

/// Wakes the readers of a stream after each commit that appended to it. Cheap to clone.
#[derive(Clone, Default)]
pub struct StreamHub(StreamSenders);

/// Subscription of one reader to the wakeups of a stream; dropping it unsubscribes.
pub struct StreamSubscription {
    stream: String,
    receiver: Option<watch::Receiver<u64>>,
    streams: StreamSenders,
}

impl StreamHub {
    /// Subscribe to a stream. Subscribe before reading, so that no event falls between the two.
    pub fn subscribe(&self, stream: &str) -> StreamSubscription {
        let mut streams = self.0.lock();
        let sender = streams.entry(stream.to_owned()).or_insert_with(|| watch::channel(0).0);
        StreamSubscription { stream: stream.to_owned(), receiver: Some(sender.subscribe()), streams: self.0.clone() }
    }

    /// Wake the readers of `stream` after events were appended.
    pub fn wake(&self, stream: &str) {
        let streams = self.0.lock();
        if let Some(sender) = streams.get(stream) {
            sender.send_modify(|count| *count += 1);
        }
    }
}

impl StreamSubscription {
    /// Wait until the stream is woken; returns at once if it was woken since the last call.
    pub async fn wait_for_wake(&mut self) {
        if let Some(receiver) = &mut self.receiver
            && receiver.changed().await.is_err()
        {
            // The map keeps the sender while a subscription exists.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for StreamSubscription {
    fn drop(&mut self) {
        self.receiver = None;
        let mut streams = self.streams.lock();
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
        let hub = StreamHub::default();
        let mut reader = hub.subscribe("a");
        hub.wake("b");
        hub.wake("a");
        reader.wait_for_wake().await;
        drop(reader);
        assert!(hub.0.lock().is_empty(), "nobody waits, nothing is kept");
    }
}
