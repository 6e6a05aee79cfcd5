//! The life of a task as a state machine, without I/O: which requests are allowed when, and what a task becomes when it is let go.

use crate::model::{WorkStatus, WorkWish};

/// A request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkRequest {
    /// Stop, to be resumed later.
    Pause,
    /// Go on with it.
    Resume,
    /// End without a result.
    Cancel,
}

impl WorkRequest {
    /// What is done to the task, for texts: "it cannot be paused".
    pub(crate) fn participle(self) -> &'static str {
        match self {
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Cancel => "cancelled",
        }
    }

    /// The request's name in the audit log.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
        }
    }
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkChange {
    /// The task has this status now.
    Become(WorkStatus),
    /// The process that does it is asked, or no longer asked.
    Ask(Option<WorkWish>),
}

/// What `request` does to a task in this state; `None`: the state forbids it.
pub(crate) fn change(status: WorkStatus, asked: Option<WorkWish>, request: WorkRequest) -> Option<WorkChange> {
    use WorkChange::{Ask, Become};
    match (request, status) {
        (_, WorkStatus::Completed | WorkStatus::Failed | WorkStatus::Cancelled) => None,
        (WorkRequest::Cancel, WorkStatus::Running) => Some(Ask(Some(WorkWish::Cancel))),
        (WorkRequest::Cancel, WorkStatus::Queued | WorkStatus::Paused) => Some(Become(WorkStatus::Cancelled)),
        (WorkRequest::Pause, WorkStatus::Queued) => Some(Become(WorkStatus::Paused)),
        (WorkRequest::Pause, WorkStatus::Running) => {
            (asked != Some(WorkWish::Cancel)).then_some(Ask(Some(WorkWish::Pause)))
        }
        (WorkRequest::Resume, WorkStatus::Paused) => Some(Become(WorkStatus::Queued)),
        (WorkRequest::Resume, WorkStatus::Running) => (asked == Some(WorkWish::Pause)).then_some(Ask(None)),
        (WorkRequest::Pause, WorkStatus::Paused) | (WorkRequest::Resume, WorkStatus::Queued) => None,
    }
}

/// What a running task becomes when its process lets it go as `wanted`, given what was asked meanwhile: a cancellation always
/// counts, and a pause that was withdrawn does not.
pub(crate) fn released(wanted: WorkStatus, asked: Option<WorkWish>) -> WorkStatus {
    match (wanted, asked) {
        (_, Some(WorkWish::Cancel)) => WorkStatus::Cancelled,
        (WorkStatus::Paused, None) => WorkStatus::Queued,
        (WorkStatus::Queued, Some(WorkWish::Pause)) => WorkStatus::Paused,
        (wanted, _) => wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Client(WorkRequest),
        Claim,
        Release(WorkStatus),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            Just(Act::Client(WorkRequest::Pause)),
            Just(Act::Client(WorkRequest::Resume)),
            Just(Act::Client(WorkRequest::Cancel)),
            Just(Act::Claim),
            Just(Act::Release(WorkStatus::Queued)),
            Just(Act::Release(WorkStatus::Paused)),
            Just(Act::Release(WorkStatus::Completed)),
            Just(Act::Release(WorkStatus::Failed)),
        ];
        proptest::collection::vec(act, 1..40)
    }

    proptest! {
        #[test]
        fn whatever_happens_an_end_is_an_end_and_a_cancellation_is_kept(acts in acts()) {
            let (mut status, mut asked) = (WorkStatus::Queued, None);
            for act in acts {
                let (before, wish) = (status, asked);
                match act {
                    Act::Client(request) => match change(status, asked, request) {
                        Some(WorkChange::Become(next)) => {
                            prop_assert_ne!(before, WorkStatus::Running, "its process would not know");
                            (status, asked) = (next, None);
                        }
                        Some(WorkChange::Ask(next)) => {
                            prop_assert_eq!(before, WorkStatus::Running);
                            prop_assert!(wish != Some(WorkWish::Cancel) || next == Some(WorkWish::Cancel));
                            asked = next;
                        }
                        None => {}
                    },
                    Act::Claim if status == WorkStatus::Queued => status = WorkStatus::Running,
                    Act::Release(wanted) if status == WorkStatus::Running => {
                        (status, asked) = (released(wanted, asked), None);
                        prop_assert!(wish != Some(WorkWish::Cancel) || status == WorkStatus::Cancelled);
                        prop_assert_ne!(status, WorkStatus::Running);
                    }
                    Act::Claim | Act::Release(_) => {}
                }
                if before.is_final() {
                    prop_assert_eq!(status, before, "an ended task does not change");
                }
                prop_assert!(asked.is_none() || status == WorkStatus::Running);
            }
        }
    }

    #[test]
    fn what_is_refused_is_said() {
        assert_eq!(change(WorkStatus::Paused, None, WorkRequest::Pause), None);
        assert_eq!(change(WorkStatus::Queued, None, WorkRequest::Resume), None);
        assert_eq!(change(WorkStatus::Running, None, WorkRequest::Resume), None);
        assert_eq!(change(WorkStatus::Running, Some(WorkWish::Cancel), WorkRequest::Pause), None);
        for status in [WorkStatus::Completed, WorkStatus::Failed, WorkStatus::Cancelled] {
            for request in [WorkRequest::Pause, WorkRequest::Resume, WorkRequest::Cancel] {
                assert_eq!(change(status, None, request), None);
            }
        }
    }
}
