//! Kinds of the events in the streams of this crate.

am_db::stored_enum! {
    /// Kind of an event in the stream of an execution.
    pub enum ExecutionEventKind {
        /// The execution began.
        ExecutionStarted = "execution_started" / "execution_started",
        /// The execution was paused on request.
        ExecutionPaused = "execution_paused" / "execution_paused",
        /// The execution was resumed on request.
        ExecutionResumed = "execution_resumed" / "execution_resumed",
        /// The execution was retried on request, after it had failed.
        ExecutionRetried = "execution_retried" / "execution_retried",
        /// The execution completed without error.
        ExecutionCompleted = "execution_completed" / "execution_completed",
        /// The execution ended by an error.
        ExecutionFailed = "execution_failed" / "execution_failed",
        /// The execution was cancelled on request.
        ExecutionCancelled = "execution_cancelled" / "execution_cancelled",
        /// An attempt at a step began.
        StepStarted = "step_started" / "step_started",
        /// A step completed without error.
        StepCompleted = "step_completed" / "step_completed",
        /// An attempt at a step failed.
        StepFailed = "step_failed" / "step_failed",
        /// A step was stopped, because the execution failed.
        StepCancelled = "step_cancelled" / "step_cancelled",
        /// A job was submitted to the coordinator's queue.
        JobQueued = "job_queued" / "job_queued",
        /// No miner took a job in time. The step fails, or another attempt queues another job.
        JobExpired = "job_expired" / "job_expired",
        /// A training run was submitted.
        TrainingQueued = "training_queued" / "training_queued",
        /// An assignment was submitted, which waits for an agent.
        AssignmentPlaced = "assignment_placed" / "assignment_placed",
        /// An assignment was offered to an agent.
        AgentAssigned = "agent_assigned" / "agent_assigned",
        /// The agent accepted its assignment.
        AgentAccepted = "agent_accepted" / "agent_accepted",
        /// The agent reported progress.
        AgentProgress = "agent_progress" / "agent_progress",
        /// The agent completed its assignment.
        AgentCompleted = "agent_completed" / "agent_completed",
        /// The agent failed at its assignment.
        AgentFailed = "agent_failed" / "agent_failed",
        /// The agent lost its assignment, or no agent had it before the deadline.
        AgentReleased = "agent_released" / "agent_released",
    }
}

am_db::stored_enum! {
    /// Kind of an event in the stream of the registry.
    pub enum RegistryEventKind {
        /// An agent was registered, for the first time or again.
        Registered = "agent_registered" / "agent_registered",
        /// An agent came online.
        Online = "agent_online" / "agent_online",
        /// An agent went offline.
        Offline = "agent_offline" / "agent_offline",
        /// An agent was deregistered.
        Deregistered = "agent_deregistered" / "agent_deregistered",
    }
}
