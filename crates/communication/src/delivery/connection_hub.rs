//! Connections of this process by agent. Messages are distributed to them in the order of their numbers.
//!
//! A connection is either *live*, and receives every message through its queue, or *behind*, and reads missing messages
//! from the database until there are none. A connection whose queue is full falls behind; it delays no other.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, mpsc};

use super::metrics::DeliveryMetrics;
use am_core::boxed;
use am_core::ids::AgentId;

/// Capacity of a connection's queue; beyond it the connection falls behind.
pub const CONNECTION_QUEUE_CAPACITY: usize = 128;
/// Maximum number of connections of one agent.
const MAX_CONNECTIONS_PER_AGENT: usize = 16;

/// A message for the connections of one agent.
#[derive(Clone, Debug)]
pub struct OutgoingEntry {
    /// Number of the message among all.
    pub id: i64,
    /// Agent that receives the message.
    pub recipient: AgentId,
    /// Message as serialized JSON.
    pub frame: Bytes,
}

/// Entry of a connection's queue.
#[derive(Debug)]
pub enum OutboundFrame {
    /// A message: its number and its serialized form.
    Message(i64, Bytes),
    /// A reply to a request of the client.
    Reply(Bytes),
}

/// A connection, as seen by the hub.
struct ConnectionSlot {
    key: u64,
    queue: mpsc::Sender<OutboundFrame>,
    live: Arc<AtomicBool>,
    /// Whether a message was written for the connection while it was behind.
    missed: bool,
}

#[derive(Default)]
struct HubState {
    agents: HashMap<AgentId, Vec<ConnectionSlot>>,
    sockets: usize,
    next_key: u64,
    /// Number up to which messages were distributed.
    seen: i64,
    stopped: bool,
}

/// The connections of this process. Cheap to clone.
#[derive(Clone, Default)]
pub struct ConnectionHub(Arc<HubShared>);

#[derive(Default)]
struct HubShared {
    state: Mutex<HubState>,
    /// Notified when the hub lacks messages that others wrote.
    gap: Notify,
    metrics: DeliveryMetrics,
}

/// A registered connection.
pub struct AgentConnection {
    pub agent: AgentId,
    pub key: u64,
    pub live: Arc<AtomicBool>,
    /// Sender of the queue, which ends when the connection is removed.
    pub sender: mpsc::WeakSender<OutboundFrame>,
    pub receiver: mpsc::Receiver<OutboundFrame>,
    /// Whether it is the agent's first connection.
    pub first: bool,
}

/// Reason why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapacityError {
    /// The process has its maximum number of connections.
    #[error("this process has reached its limit of connections")]
    Process,
    /// The agent has its maximum number of connections.
    #[error("the agent has {MAX_CONNECTIONS_PER_AGENT} connections already")]
    Agent,
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
}

impl ConnectionHub {
    fn lock(&self) -> MutexGuard<'_, HubState> {
        self.0.state.lock()
    }

    /// Metrics of delivery.
    pub fn metrics(&self) -> &DeliveryMetrics {
        &self.0.metrics
    }

    /// Whether `agent` has a connection in this process.
    pub fn has(&self, agent: &AgentId) -> bool {
        self.lock().agents.contains_key(agent)
    }

    /// Number of open connections.
    pub fn count(&self) -> usize {
        self.lock().sockets
    }

    /// Agents with connections.
    pub fn agents(&self) -> Vec<AgentId> {
        self.lock().agents.keys().cloned().collect()
    }

    /// Register a connection of `agent`, initially behind, if there are fewer than `most`. `last` is the number of the
    /// last message written before.
    pub fn join(&self, agent: &AgentId, most: usize, last: i64) -> Result<AgentConnection, CapacityError> {
        let mut state = self.lock();
        if state.stopped {
            return Err(CapacityError::Stopping);
        }
        if state.sockets >= most {
            return Err(CapacityError::Process);
        }
        if state.agents.is_empty() {
            // No connection needed the messages written since.
            state.seen = state.seen.max(last);
        }
        let others = state.agents.get(agent).map_or(0, Vec::len);
        if others >= MAX_CONNECTIONS_PER_AGENT {
            return Err(CapacityError::Agent);
        }
        let (sender, receiver) = mpsc::channel(CONNECTION_QUEUE_CAPACITY);
        let live = Arc::new(AtomicBool::new(false));
        state.next_key += 1;
        state.sockets += 1;
        let key = state.next_key;
        let slot = ConnectionSlot { key, queue: sender.clone(), live: live.clone(), missed: false };
        state.agents.entry(agent.clone()).or_default().push(slot);
        self.0.metrics.sockets.set(state.sockets as i64);
        Ok(AgentConnection {
            agent: agent.clone(),
            key,
            live,
            sender: sender.downgrade(),
            receiver,
            first: others == 0,
        })
    }

    /// Remove a connection. Returns true when the agent has no other one.
    pub fn leave(&self, agent: &AgentId, key: u64) -> bool {
        let mut state = self.lock();
        let Some(slots) = state.agents.get_mut(agent) else { return false };
        let before = slots.len();
        slots.retain(|slot| slot.key != key);
        let (gone, left) = (before - slots.len(), slots.len());
        if left == 0 {
            state.agents.remove(agent);
        }
        state.sockets -= gone;
        self.0.metrics.sockets.set(state.sockets as i64);
        left == 0
    }

    /// Mark a connection as live after it has read all messages. Returns false when a message was written meanwhile, so
    /// that it must read again.
    pub fn mark_live(&self, agent: &AgentId, key: u64) -> bool {
        let mut state = self.lock();
        let slots = state.agents.get_mut(agent);
        let Some(slot) = slots.and_then(|slots| slots.iter_mut().find(|slot| slot.key == key)) else { return true };
        let missed = std::mem::take(&mut slot.missed);
        if !missed {
            slot.live.store(true, Ordering::Release);
        }
        !missed
    }

    /// Distribute messages that this process wrote, those after number `before` up to `last`. If other processes wrote
    /// messages in between, all of them are left to the database poller, which keeps their order.
    pub fn push(&self, before: i64, last: i64, pushed: Vec<OutgoingEntry>) {
        let mut state = self.lock();
        if last == before {
            return;
        }
        if state.agents.is_empty() {
            state.seen = state.seen.max(last);
        } else if state.seen == before {
            self.broadcast_to_slots(&mut state, pushed);
            state.seen = last;
        } else {
            self.0.gap.notify_one();
        }
    }

    /// Number up to which messages were distributed; `None` without connections.
    pub fn seen(&self) -> Option<i64> {
        let state = self.lock();
        (!state.agents.is_empty()).then_some(state.seen)
    }

    /// Distribute messages read from the database, those after number `from` up to `last`. Returns false when other
    /// messages were distributed meanwhile.
    pub fn advance(&self, from: i64, last: i64, pushed: Vec<OutgoingEntry>) -> bool {
        let mut state = self.lock();
        if state.seen != from {
            return false;
        }
        self.broadcast_to_slots(&mut state, pushed);
        state.seen = last;
        true
    }

    fn broadcast_to_slots(&self, state: &mut HubState, pushed: Vec<OutgoingEntry>) {
        for one in pushed {
            let Some(slots) = state.agents.get_mut(&one.recipient) else { continue };
            for slot in slots {
                if !slot.live.load(Ordering::Acquire) {
                    slot.missed = true;
                } else if slot.queue.try_send(OutboundFrame::Message(one.id, one.frame.clone())).is_err() {
                    slot.live.store(false, Ordering::Release);
                    slot.missed = true;
                    self.0.metrics.behind.inc();
                } else {
                    self.0.metrics.pushed.inc();
                }
            }
        }
    }

    /// Wait until the hub lacks messages that others wrote.
    #[boxed]
    pub async fn gap(&self) {
        self.0.gap.notified().await;
    }

    /// Disconnect all connections and accept no more.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        // A connection's queue ends with its slot; queued entries are sent first.
        state.agents.clear();
        state.sockets = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(id: i64, recipient: &str) -> OutgoingEntry {
        OutgoingEntry { id, recipient: recipient.into(), frame: Bytes::from(id.to_string()) }
    }

    fn got(joined: &mut AgentConnection) -> Vec<i64> {
        let mut ids = Vec::new();
        while let Ok(OutboundFrame::Message(id, _)) = joined.receiver.try_recv() {
            ids.push(id);
        }
        ids
    }

    #[test]
    fn a_socket_is_behind_until_it_has_read_everything() {
        let hub = ConnectionHub::default();
        let mut one = hub.join(&"a".into(), 10, 5).unwrap();
        hub.push(5, 6, vec![pushed(6, "a")]);
        assert_eq!(got(&mut one), [0i64; 0]);
        assert!(!hub.mark_live(&"a".into(), one.key), "it missed one");
        assert!(hub.mark_live(&"a".into(), one.key));
        hub.push(6, 8, vec![pushed(7, "b"), pushed(8, "a")]);
        assert_eq!(got(&mut one), [8]);
    }

    #[test]
    fn what_others_wrote_between_is_given_out_in_order_by_whoever_reads_it() {
        let hub = ConnectionHub::default();
        let mut one = hub.join(&"a".into(), 10, 0).unwrap();
        assert!(hub.mark_live(&"a".into(), one.key));
        hub.push(0, 1, vec![pushed(1, "a")]);
        // Number 2 is another process's.
        hub.push(2, 3, vec![pushed(3, "a")]);
        assert_eq!(got(&mut one), [1]);
        assert_eq!(hub.seen(), Some(1));
        assert!(!hub.advance(0, 3, vec![]), "that was read too early");
        assert!(hub.advance(1, 3, vec![pushed(2, "a"), pushed(3, "a")]));
        hub.push(3, 4, vec![pushed(4, "a")]);
        assert_eq!(got(&mut one), [2, 3, 4]);
    }

    #[test]
    fn a_full_queue_makes_its_socket_fall_behind_and_no_other() {
        let hub = ConnectionHub::default();
        let (mut slow, mut quick) = (hub.join(&"a".into(), 10, 0).unwrap(), hub.join(&"a".into(), 10, 0).unwrap());
        for joined in [&slow, &quick] {
            assert!(hub.mark_live(&"a".into(), joined.key));
        }
        let most = CONNECTION_QUEUE_CAPACITY as i64;
        for id in 1..=most + 2 {
            hub.push(id - 1, id, vec![pushed(id, "a")]);
            assert_eq!(got(&mut quick), [id]);
        }
        assert!(!slow.live.load(Ordering::Acquire));
        assert_eq!(got(&mut slow), (1..=most).collect::<Vec<_>>(), "without a gap up to where it fell behind");
        assert!(!hub.mark_live(&"a".into(), slow.key));
        assert!(hub.mark_live(&"a".into(), slow.key));
    }

    #[test]
    fn places_are_counted_and_end_with_the_hub() {
        let hub = ConnectionHub::default();
        let mut places: Vec<AgentConnection> =
            (0..MAX_CONNECTIONS_PER_AGENT).map(|_| hub.join(&"a".into(), 100, 0).unwrap()).collect();
        assert!(places[0].first && !places[1].first);
        assert_eq!(hub.join(&"a".into(), 100, 0).err(), Some(CapacityError::Agent));
        assert_eq!(hub.join(&"b".into(), MAX_CONNECTIONS_PER_AGENT, 0).err(), Some(CapacityError::Process));
        let last = places.pop().unwrap();
        assert!(!hub.leave(&"a".into(), last.key));
        assert_eq!(hub.count(), MAX_CONNECTIONS_PER_AGENT - 1);
        hub.stop();
        assert_eq!(hub.join(&"b".into(), 100, 0).err(), Some(CapacityError::Stopping));
        assert!(places[0].sender.upgrade().is_none());
        assert!(matches!(places[0].receiver.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)));
    }
}
