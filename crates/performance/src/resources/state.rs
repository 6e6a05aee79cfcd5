//! The life of an allocation, without storage: which action its state allows, and when its capacity is free again.

use std::fmt;

/// State of an allocation that this service made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AllocationState {
    /// It may be started.
    Allocated,
    /// It is used.
    Active,
    /// Its use has ended well.
    Completed,
    /// It was given back.
    Released,
    /// Its time ran out.
    Expired,
}

impl AllocationState {
    pub(super) const ALL: [Self; 5] = [Self::Allocated, Self::Active, Self::Completed, Self::Released, Self::Expired];

    /// The word for it in the table and in answers.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Allocated => "allocated",
            Self::Active => "active",
            Self::Completed => "completed",
            Self::Released => "released",
            Self::Expired => "expired",
        }
    }

    /// The state of this word.
    pub(super) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

impl fmt::Display for AllocationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What is done with an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AllocationAction {
    /// Its use begins.
    Start,
    /// Its use has ended; with `keep` its capacity stays taken until it is released.
    Complete { keep: bool },
    /// It is given back, whatever it was used for.
    Release,
    /// Its time has run out.
    Expire,
}

/// Where an allocation is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AllocationLife {
    pub state: AllocationState,
    /// Whether it takes capacity of a host.
    pub holds: bool,
}

/// What an action makes of an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LifeChange {
    pub life: AllocationLife,
    /// Whether its capacity becomes free.
    pub frees: bool,
}

impl AllocationLife {
    /// A new one; `holds`: a host has room for it.
    pub(super) fn begun(holds: bool) -> Self {
        Self { state: AllocationState::Allocated, holds }
    }

    /// Whether its time can run out.
    pub(super) fn can_expire(self) -> bool {
        self.holds || matches!(self.state, AllocationState::Allocated | AllocationState::Active)
    }

    /// Do this; `None`: the state forbids it.
    pub(super) fn apply(self, action: AllocationAction) -> Option<LifeChange> {
        use AllocationState::{Active, Allocated, Completed, Expired, Released};
        let (state, holds) = match (action, self.state) {
            (AllocationAction::Start, Allocated) => (Active, self.holds),
            (AllocationAction::Complete { keep }, Active) => (Completed, self.holds && keep),
            (AllocationAction::Release, Allocated | Active | Completed) => (Released, false),
            (AllocationAction::Expire, Allocated | Active) => (Expired, false),
            // What it was used for is done: only what it still takes runs out.
            (AllocationAction::Expire, Completed) if self.holds => (Completed, false),
            _ => return None,
        };
        Some(LifeChange { life: Self { state, holds }, frees: self.holds && !holds })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn actions() -> impl Strategy<Value = AllocationAction> {
        prop_oneof![
            Just(AllocationAction::Start),
            any::<bool>().prop_map(|keep| AllocationAction::Complete { keep }),
            Just(AllocationAction::Release),
            Just(AllocationAction::Expire),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn capacity_is_freed_once_and_ends_are_final(
            begun in proptest::collection::vec(any::<bool>(), 1..8),
            steps in proptest::collection::vec((0usize..8, actions()), 0..60),
        ) {
            let mut lives: Vec<AllocationLife> = begun.iter().map(|holds| AllocationLife::begun(*holds)).collect();
            let mut taken = begun.iter().filter(|holds| **holds).count();
            for (at, action) in steps {
                let at = at % lives.len();
                let before = lives[at];
                let Some(change) = before.apply(action) else { continue };
                prop_assert!(change.life != before, "an action that is allowed changes something");
                prop_assert!(change.life.holds <= before.holds, "nothing is taken again");
                taken -= usize::from(change.frees);
                lives[at] = change.life;
                prop_assert_eq!(taken, lives.iter().filter(|life| life.holds).count());
                if matches!(change.life.state, AllocationState::Released | AllocationState::Expired) {
                    prop_assert!(!change.life.holds && !change.life.can_expire());
                    for action in [AllocationAction::Start, AllocationAction::Release, AllocationAction::Expire] {
                        prop_assert_eq!(change.life.apply(action), None);
                    }
                }
            }
            // Whatever was done, what can expire does, and then nothing is taken.
            for life in lives {
                let expired = life.apply(AllocationAction::Expire);
                prop_assert_eq!(expired.is_some(), life.can_expire());
                prop_assert!(!expired.map_or(life, |change| change.life).holds);
            }
        }
    }

    #[test]
    fn a_use_is_started_completed_and_given_back() {
        let life = AllocationLife::begun(true);
        assert_eq!(life.apply(AllocationAction::Complete { keep: false }), None, "it was not started");
        let active = life.apply(AllocationAction::Start).unwrap();
        assert!(!active.frees && active.life.holds);
        assert_eq!(active.life.apply(AllocationAction::Start), None);
        assert!(active.life.apply(AllocationAction::Complete { keep: false }).unwrap().frees);
        let kept = active.life.apply(AllocationAction::Complete { keep: true }).unwrap();
        assert_eq!((kept.life.state, kept.frees), (AllocationState::Completed, false));
        assert_eq!(kept.life.apply(AllocationAction::Expire).unwrap().life.state, AllocationState::Completed);
        assert!(kept.life.apply(AllocationAction::Release).unwrap().frees);
        for state in AllocationState::ALL {
            assert_eq!(AllocationState::from_word(state.word()), Some(state));
        }
        assert_eq!(AllocationState::from_word("failed"), None);
    }
}
