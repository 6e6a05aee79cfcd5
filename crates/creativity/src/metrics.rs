//! Metrics of creativity.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// Who wrote ideas.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct IdeaLabel {
    pub(crate) source: &'static str,
}

/// Counters of what was answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct CreativityMetrics {
    pub(crate) evaluations: Counter,
    pub(crate) ideas: Family<IdeaLabel, Counter>,
    pub(crate) llm_failures: Counter,
    pub(crate) encoder_loads: Counter,
}

impl CreativityMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("creativity_evaluations", "Creations that were evaluated", self.evaluations.clone());
        registry.register("creativity_ideas", "Ideas that were answered, by who wrote them", self.ideas.clone());
        // Shown from the start, so that a rise from nothing is seen.
        for source in ["rules", "language_model"] {
            self.ideas.get_or_create(&IdeaLabel { source }).inc_by(0);
        }
        let loads = "Times that the sentence encoder was loaded";
        registry.register("text_encoder_loads", loads, self.encoder_loads.clone());
        registry.register(
            "creativity_llm_failures",
            "Calls of the language model that gave no usable ideas",
            self.llm_failures.clone(),
        );
    }
}
