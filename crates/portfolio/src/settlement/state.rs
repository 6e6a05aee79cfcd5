//! What is done about a transaction by what the chain says of it. Without I/O.

use crate::model::SettlementStatus;

/// What the chain says of a settlement's transactions, all of which have one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChainSight {
    /// A block has one of them; `depth` counts the blocks from it to the newest, both included, and is 0 where the block is not
    /// (or not any more) of the chain.
    Mined { depth: u64 },
    /// No block has one, but the sender's transactions up to this number are final: another one took its place.
    Replaced,
    /// No block has one, and the node has the last.
    Known,
    /// The node has none of them.
    Missing,
}

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SettlementStep {
    /// Nothing: a node has it.
    Wait,
    /// The same bytes are sent again.
    Resend,
    /// What the block says of it is recorded for good.
    Conclude,
    /// It can't happen any more, unless the contract has it.
    AskContract,
}

/// What is done about a transaction that this was seen of, where a block counts from so many confirmations on.
pub(crate) fn next_step(sight: ChainSight, confirmations: u64) -> SettlementStep {
    match sight {
        ChainSight::Mined { depth } if depth >= confirmations => SettlementStep::Conclude,
        ChainSight::Mined { .. } | ChainSight::Known => SettlementStep::Wait,
        ChainSight::Replaced => SettlementStep::AskContract,
        ChainSight::Missing => SettlementStep::Resend,
    }
}

/// When a transaction is replaced without being asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ReplacementTerms {
    /// Seconds that it waits for a block before.
    pub wait: f64,
    /// Replacements of one transaction at most.
    pub most: u64,
}

/// A transaction that no block has yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct WaitingTransaction {
    /// Number of the transaction.
    pub nonce: u64,
    /// Seconds since it was signed.
    pub waited: f64,
    /// How many of the same number were signed before it.
    pub replaced: u64,
}

/// Whether it is to be replaced by one that pays more, where `count` transactions of the sender are in the chain. Only the next one is:
/// those behind it wait for it, whatever they pay.
pub(crate) fn replacement_due(sight: ChainSight, one: WaitingTransaction, count: u64, terms: ReplacementTerms) -> bool {
    let open = matches!(sight, ChainSight::Known | ChainSight::Missing);
    open && one.nonce == count && one.waited >= terms.wait && one.replaced < terms.most
}

/// The number that the chain waits for, `count`, where the first of those under way has a later one and has waited long enough: then
/// nobody's transaction has it, or nobody sends it.
pub(crate) fn missing_nonce(first: WaitingTransaction, count: u64, terms: ReplacementTerms) -> Option<u64> {
    (first.nonce > count && first.waited >= terms.wait).then_some(count)
}

/// What an admin may ask of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryPlan {
    /// A new transaction, with a new number: the one before can't happen any more.
    Anew,
    /// A transaction with the same number that pays more: of the two, one can happen.
    Reprice,
}

/// How a settlement in this state is tried again; `None`: it is not.
pub(crate) fn retry_plan(status: SettlementStatus) -> Option<RetryPlan> {
    match status {
        SettlementStatus::Reverted | SettlementStatus::Superseded => Some(RetryPlan::Anew),
        SettlementStatus::Sent | SettlementStatus::Unknown => Some(RetryPlan::Reprice),
        SettlementStatus::Pending
        | SettlementStatus::Signed
        | SettlementStatus::Confirmed
        | SettlementStatus::Abandoned => None,
    }
}

/// Whether a settlement in this state may be given up: only where no transaction of it can happen.
pub(crate) fn may_abandon(status: SettlementStatus) -> bool {
    matches!(status, SettlementStatus::Pending | SettlementStatus::Reverted | SettlementStatus::Superseded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Blocks after which the model's chain does not change its mind, and the worker does not either.
    const CONFIRMATIONS: u64 = 3;

    /// Whether a transaction of it may be mined yet.
    fn in_flight(status: SettlementStatus) -> bool {
        matches!(status, SettlementStatus::Signed | SettlementStatus::Sent | SettlementStatus::Unknown)
    }

    /// What happens between two looks.
    #[derive(Clone, Copy, Debug)]
    enum ChainHappening {
        /// The worker looks, and does what follows; its process may die before the node has what it sends.
        Look { dies: bool },
        /// The node includes what it has, in the order of numbers.
        Mine,
        /// The last blocks are replaced by empty ones; what they had is back in the pool, or ours is lost.
        Reorganise { blocks: usize, lost: bool },
        /// The node forgets what no block has; others send theirs again.
        Forget,
        /// Somebody else uses the key for a transaction of its own.
        Foreign,
        /// An admin asks for another try.
        Retry,
        /// A transaction with the same number that pays more is sent. Some nodes have the first, some the second.
        Replace,
    }

    /// A transaction of the model: its number, and whether it is ours.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct ModelledTransaction {
        nonce: u64,
        ours: bool,
    }

    /// A chain, a node's pool, and one settlement.
    #[derive(Debug, Default)]
    struct ChainModel {
        blocks: Vec<Vec<ModelledTransaction>>,
        pool: Vec<ModelledTransaction>,
        status: Option<SettlementStatus>,
        nonce: u64,
        /// What the contract holds of it in the chain as it is.
        settled: bool,
    }

    impl ChainModel {
        fn count(&self, blocks: usize) -> u64 {
            self.blocks.iter().take(blocks).map(|block| block.len() as u64).sum()
        }

        fn all(&self) -> u64 {
            self.count(self.blocks.len())
        }

        fn times_settled(&self) -> usize {
            let ours = self.blocks.iter().flatten().filter(|one| one.ours);
            // The contract takes a settlement once: another transaction of it is reverted.
            ours.count().min(1)
        }

        fn sight(&self) -> ChainSight {
            let own = ModelledTransaction { nonce: self.nonce, ours: true };
            let found = self.blocks.iter().position(|block| block.contains(&own));
            let last = self.blocks.len() as u64;
            if let Some(at) = found {
                return ChainSight::Mined { depth: last - at as u64 };
            }
            let end = (last + 1).saturating_sub(CONFIRMATIONS) as usize;
            if self.count(end) > self.nonce {
                return ChainSight::Replaced;
            }
            if self.pool.contains(&own) { ChainSight::Known } else { ChainSight::Missing }
        }

        fn send(&mut self, dies: bool) {
            let own = ModelledTransaction { nonce: self.nonce, ours: true };
            let taken = self.pool.iter().any(|one| one.nonce == own.nonce) || self.all() > own.nonce;
            if !dies && !taken {
                self.pool.push(own);
            }
        }

        fn sign(&mut self, dies: bool) {
            self.nonce = self.status.map_or(0, |_| self.nonce + 1).max(self.all());
            self.status = Some(SettlementStatus::Signed);
            self.send(dies);
        }

        fn happen(&mut self, happening: ChainHappening) {
            match happening {
                ChainHappening::Look { dies } => match self.status {
                    None | Some(SettlementStatus::Pending) => self.sign(dies),
                    Some(status) if in_flight(status) => match next_step(self.sight(), CONFIRMATIONS) {
                        SettlementStep::Wait => self.status = Some(SettlementStatus::Sent),
                        SettlementStep::Resend => {
                            self.status = Some(SettlementStatus::Unknown);
                            self.send(dies);
                        }
                        SettlementStep::Conclude => self.status = Some(SettlementStatus::Confirmed),
                        SettlementStep::AskContract => {
                            let settled = self.times_settled() > 0;
                            let ended =
                                if settled { SettlementStatus::Confirmed } else { SettlementStatus::Superseded };
                            self.status = Some(ended);
                        }
                    },
                    Some(_) => {}
                },
                ChainHappening::Mine => {
                    let mut block = Vec::new();
                    let mut next = self.all();
                    while let Some(at) = self.pool.iter().position(|one| one.nonce == next) {
                        block.push(self.pool.remove(at));
                        next += 1;
                    }
                    self.pool.retain(|one| one.nonce >= next);
                    self.blocks.push(block);
                }
                ChainHappening::Reorganise { blocks, lost } => {
                    // What is final stays.
                    let blocks = blocks.min(CONFIRMATIONS as usize - 1).min(self.blocks.len());
                    for _ in 0..blocks {
                        let gone = self.blocks.pop().unwrap();
                        self.pool.extend(gone.into_iter().filter(|one| !lost || !one.ours));
                    }
                    self.blocks.extend((0..blocks).map(|_| Vec::new()));
                }
                ChainHappening::Forget => self.pool.retain(|one| !one.ours),
                ChainHappening::Foreign => {
                    let nonce = self.all();
                    self.pool.retain(|one| one.nonce != nonce);
                    self.pool.push(ModelledTransaction { nonce, ours: false });
                }
                ChainHappening::Retry => {
                    let plan = self.status.and_then(retry_plan);
                    if plan == Some(RetryPlan::Anew) {
                        self.status = Some(SettlementStatus::Pending);
                    }
                }
                ChainHappening::Replace => {
                    let is_open = self.status.is_some_and(in_flight) && self.all() <= self.nonce;
                    self.pool.extend(is_open.then_some(ModelledTransaction { nonce: self.nonce, ours: true }));
                }
            }
            self.settled = self.times_settled() > 0;
        }
    }

    fn happening() -> impl Strategy<Value = ChainHappening> {
        prop_oneof![
            4 => any::<bool>().prop_map(|dies| ChainHappening::Look { dies }),
            4 => Just(ChainHappening::Mine),
            1 => (1usize..3, any::<bool>()).prop_map(|(blocks, lost)| ChainHappening::Reorganise { blocks, lost }),
            1 => Just(ChainHappening::Forget),
            1 => Just(ChainHappening::Foreign),
            1 => Just(ChainHappening::Retry),
            1 => Just(ChainHappening::Replace),
        ]
    }

    proptest! {
        /// Whatever happens, two transactions of a settlement are never in the chain, what is said to be confirmed is there, and what
        /// is said to be superseded is not and never will be.
        #[test]
        fn a_settlement_happens_once(happenings in prop::collection::vec(happening(), 0..60)) {
            let mut model = ChainModel::default();
            for happening in happenings {
                model.happen(happening);
                let ours = model.blocks.iter().flatten().filter(|one| one.ours).count();
                prop_assert!(ours <= 1, "two transactions of one settlement are in the chain: {model:?}");
                match model.status {
                    Some(SettlementStatus::Confirmed) => prop_assert!(model.settled, "{model:?}"),
                    Some(SettlementStatus::Superseded) => prop_assert!(!model.settled, "{model:?}"),
                    _ => {}
                }
            }
            // Left alone, it comes to an end.
            for _ in 0..20 {
                model.happen(ChainHappening::Look { dies: false });
                model.happen(ChainHappening::Mine);
            }
            prop_assert!(!model.status.is_some_and(in_flight), "{model:?}");
        }
    }

    #[test]
    fn only_the_next_transaction_is_replaced_and_not_for_ever() {
        let terms = ReplacementTerms { wait: 300.0, most: 2 };
        let one = WaitingTransaction { nonce: 7, waited: 300.0, replaced: 1 };
        let due = |sight, one, count| replacement_due(sight, one, count, terms);
        for sight in [ChainSight::Known, ChainSight::Missing] {
            assert!(due(sight, one, 7), "{sight:?}");
            assert!(!due(sight, one, 6), "another one is next");
            assert!(!due(sight, WaitingTransaction { waited: 299.9, ..one }, 7), "its time is not over");
            assert!(!due(sight, WaitingTransaction { replaced: 2, ..one }, 7), "that was often enough");
        }
        for sight in [ChainSight::Mined { depth: 0 }, ChainSight::Mined { depth: 1 }, ChainSight::Replaced] {
            assert!(!due(sight, one, 7), "{sight:?}: a block has it, or another one");
        }
        assert_eq!(missing_nonce(one, 6, terms), Some(6));
        assert_eq!(missing_nonce(one, 7, terms), None, "it is next itself");
        assert_eq!(missing_nonce(WaitingTransaction { waited: 1.0, ..one }, 6, terms), None);
    }

    #[test]
    fn states_are_told_apart() {
        for status in SettlementStatus::ALL.iter().copied() {
            let flies = in_flight(status);
            assert!(!(flies && may_abandon(status)), "{status}: what may yet happen is not given up");
            assert!(!flies || retry_plan(status) != Some(RetryPlan::Anew), "{status}: it could happen twice");
        }
        assert_eq!(next_step(ChainSight::Mined { depth: 0 }, 1), SettlementStep::Wait);
        assert_eq!(next_step(ChainSight::Mined { depth: 1 }, 1), SettlementStep::Conclude);
        assert_eq!(retry_plan(SettlementStatus::Confirmed), None);
    }
}
