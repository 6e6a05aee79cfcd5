//! The sockets of this process, by agent. What was written is given to them here, in the order of its numbers.
//!
//! A socket is either *live*, and gets everything through its queue, or *behind*, and reads what it has not had from the
//! database until nothing is left there. A queue that is full makes its socket fall behind; it holds up nobody else.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use super::metrics::Metrics;

/// What waits for a socket that does not take it; beyond it the socket falls behind.
pub const QUEUE: usize = 128;
/// Sockets of one agent.
const OF_ONE_AGENT: usize = 16;

/// A message for one agent's sockets.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// Its number among all.
    pub id: i64,
    /// Whose sockets.
    pub recipient: Arc<str>,
    /// What they are sent.
    pub frame: Bytes,
}

/// What comes through a socket's queue.
#[derive(Debug)]
pub enum Out {
    /// A message.
    Message(i64, Bytes),
    /// An answer to something that the client sent.
    Reply(Bytes),
}

/// A socket as the hub knows it.
struct Slot {
    key: u64,
    queue: mpsc::Sender<Out>,
    live: Arc<AtomicBool>,
    /// Something was written for it while it was behind.
    missed: bool,
}

#[derive(Default)]
struct State {
    agents: HashMap<Arc<str>, Vec<Slot>>,
    sockets: usize,
    next_key: u64,
    /// Every message up to this number was given to the sockets.
    seen: i64,
    stopped: bool,
}

/// The sockets of this process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Hub(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Something was written that the hub has not seen.
    gap: Notify,
    metrics: Metrics,
}

/// A place of a socket.
pub struct Joined {
    pub agent: Arc<str>,
    pub key: u64,
    pub live: Arc<AtomicBool>,
    /// It ends with the place.
    pub sender: mpsc::WeakSender<Out>,
    pub receiver: mpsc::Receiver<Out>,
    /// It is the agent's first.
    pub first: bool,
}

/// Why a socket gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The process has as many as it may.
    #[error("this process has as many sockets as it may")]
    Process,
    /// The agent has.
    #[error("the agent has {OF_ONE_AGENT} sockets already")]
    Agent,
    /// It is stopping.
    #[error("the service is stopping")]
    Stopping,
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is counted here.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Does `agent` have a socket here?
    pub fn has(&self, agent: &str) -> bool {
        self.lock().agents.contains_key(agent)
    }

    /// Sockets that are open.
    pub fn count(&self) -> usize {
        self.lock().sockets
    }

    /// The agents that have any.
    pub fn agents(&self) -> Vec<Arc<str>> {
        self.lock().agents.keys().cloned().collect()
    }

    /// Take a place for a socket of `agent`, behind at first; of at most `most`. `last` is the number of the last message
    /// that was written before.
    pub fn join(&self, agent: &str, most: usize, last: i64) -> Result<Joined, Full> {
        let mut state = self.lock();
        if state.stopped {
            return Err(Full::Stopping);
        }
        if state.sockets >= most {
            return Err(Full::Process);
        }
        if state.agents.is_empty() {
            // Nobody was there for what was written since.
            state.seen = state.seen.max(last);
        }
        let found = state.agents.get_key_value(agent).map(|(name, slots)| (name.clone(), slots.len()));
        let (agent, others) = found.unwrap_or_else(|| (Arc::from(agent), 0));
        if others >= OF_ONE_AGENT {
            return Err(Full::Agent);
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        let live = Arc::new(AtomicBool::new(false));
        state.next_key += 1;
        state.sockets += 1;
        let key = state.next_key;
        let slot = Slot { key, queue: sender.clone(), live: live.clone(), missed: false };
        state.agents.entry(agent.clone()).or_default().push(slot);
        self.0.metrics.sockets.set(state.sockets as i64);
        Ok(Joined { agent, key, live, sender: sender.downgrade(), receiver, first: others == 0 })
    }

    /// Give a place back; true: the agent has none any more.
    pub fn leave(&self, agent: &str, key: u64) -> bool {
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

    /// A socket has read everything; false: something was written meanwhile, and it must read again.
    pub fn go_live(&self, agent: &str, key: u64) -> bool {
        let mut state = self.lock();
        let slots = state.agents.get_mut(agent);
        let Some(slot) = slots.and_then(|slots| slots.iter_mut().find(|slot| slot.key == key)) else { return true };
        let missed = std::mem::take(&mut slot.missed);
        if !missed {
            slot.live.store(true, Ordering::Release);
        }
        !missed
    }

    /// Messages that this process wrote: those after number `before`, up to `last`. If others wrote between what was seen
    /// and these, all of them are given out by whoever follows the database, in their order.
    pub fn push(&self, before: i64, last: i64, pushed: Vec<Pushed>) {
        let mut state = self.lock();
        if last == before {
            return;
        }
        if state.agents.is_empty() {
            state.seen = state.seen.max(last);
        } else if state.seen == before {
            self.give(&mut state, pushed);
            state.seen = last;
        } else {
            self.0.gap.notify_one();
        }
    }

    /// The number up to which everything was given out, if anybody is there to be given anything.
    pub fn seen(&self) -> Option<i64> {
        let state = self.lock();
        (!state.agents.is_empty()).then_some(state.seen)
    }

    /// What was read from the database: everything after number `from`, up to `last`. False: somebody else was faster.
    pub fn advance(&self, from: i64, last: i64, pushed: Vec<Pushed>) -> bool {
        let mut state = self.lock();
        if state.seen != from {
            return false;
        }
        self.give(&mut state, pushed);
        state.seen = last;
        true
    }

    fn give(&self, state: &mut State, pushed: Vec<Pushed>) {
        for one in pushed {
            let Some(slots) = state.agents.get_mut(&*one.recipient) else { continue };
            for slot in slots {
                if !slot.live.load(Ordering::Acquire) {
                    slot.missed = true;
                } else if slot.queue.try_send(Out::Message(one.id, one.frame.clone())).is_err() {
                    slot.live.store(false, Ordering::Release);
                    slot.missed = true;
                    self.0.metrics.behind.inc();
                } else {
                    self.0.metrics.pushed.inc();
                }
            }
        }
    }

    /// Until something was written that the hub has not seen.
    pub async fn gap(&self) {
        self.0.gap.notified().await;
    }

    /// Let every socket go, and take no more.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        // A socket's queue ends with its slot; what it holds is sent first.
        state.agents.clear();
        state.sockets = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(id: i64, recipient: &str) -> Pushed {
        Pushed { id, recipient: Arc::from(recipient), frame: Bytes::from(id.to_string()) }
    }

    fn got(joined: &mut Joined) -> Vec<i64> {
        let mut ids = Vec::new();
        while let Ok(Out::Message(id, _)) = joined.receiver.try_recv() {
            ids.push(id);
        }
        ids
    }

    #[test]
    fn a_socket_is_behind_until_it_has_read_everything() {
        let hub = Hub::default();
        let mut one = hub.join("a", 10, 5).unwrap();
        hub.push(5, 6, vec![pushed(6, "a")]);
        assert_eq!(got(&mut one), [0i64; 0]);
        assert!(!hub.go_live("a", one.key), "it missed one");
        assert!(hub.go_live("a", one.key));
        hub.push(6, 8, vec![pushed(7, "b"), pushed(8, "a")]);
        assert_eq!(got(&mut one), [8]);
    }

    #[test]
    fn what_others_wrote_between_is_given_out_in_order_by_whoever_reads_it() {
        let hub = Hub::default();
        let mut one = hub.join("a", 10, 0).unwrap();
        assert!(hub.go_live("a", one.key));
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
        let hub = Hub::default();
        let (mut slow, mut quick) = (hub.join("a", 10, 0).unwrap(), hub.join("a", 10, 0).unwrap());
        for joined in [&slow, &quick] {
            assert!(hub.go_live("a", joined.key));
        }
        let most = QUEUE as i64;
        for id in 1..=most + 2 {
            hub.push(id - 1, id, vec![pushed(id, "a")]);
            assert_eq!(got(&mut quick), [id]);
        }
        assert!(!slow.live.load(Ordering::Acquire));
        assert_eq!(got(&mut slow), (1..=most).collect::<Vec<_>>(), "without a gap up to where it fell behind");
        assert!(!hub.go_live("a", slow.key));
        assert!(hub.go_live("a", slow.key));
    }

    #[test]
    fn places_are_counted_and_end_with_the_hub() {
        let hub = Hub::default();
        let mut places: Vec<Joined> = (0..OF_ONE_AGENT).map(|_| hub.join("a", 100, 0).unwrap()).collect();
        assert!(places[0].first && !places[1].first);
        assert_eq!(hub.join("a", 100, 0).err(), Some(Full::Agent));
        assert_eq!(hub.join("b", OF_ONE_AGENT, 0).err(), Some(Full::Process));
        let last = places.pop().unwrap();
        assert!(!hub.leave("a", last.key));
        assert_eq!(hub.count(), OF_ONE_AGENT - 1);
        hub.stop();
        assert_eq!(hub.join("b", 100, 0).err(), Some(Full::Stopping));
        assert!(places[0].sender.upgrade().is_none());
        assert!(matches!(places[0].receiver.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)));
    }
}
