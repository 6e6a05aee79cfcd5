//! The categories of services.

am_db::stored_enum! {
    /// Category of a service.
    pub enum ServiceCategory {
        /// Analysis of data sets.
        DataAnalysis = "DATA_ANALYSIS" / "data_analysis",
        /// Creation of texts, images and other content.
        ContentCreation = "CONTENT_CREATION" / "content_creation",
        /// Research on a question.
        Research = "RESEARCH" / "research",
        /// Advice on a matter.
        Consulting = "CONSULTING" / "consulting",
        /// Development of software.
        Development = "DEVELOPMENT" / "development",
        /// Design of products and interfaces.
        Design = "DESIGN" / "design",
        /// Marketing of products.
        Marketing = "MARKETING" / "marketing",
        /// Translation between languages.
        Translation = "TRANSLATION" / "translation",
        /// Writing of texts.
        Writing = "WRITING" / "writing",
        /// Analysis of a situation or a system.
        Analysis = "ANALYSIS" / "analysis",
        /// Prediction of what will be.
        Prediction = "PREDICTION" / "prediction",
        /// Optimisation of a process or a system.
        Optimization = "OPTIMIZATION" / "optimization",
        /// Automation of work.
        Automation = "AUTOMATION" / "automation",
        /// Monitoring of systems.
        Monitoring = "MONITORING" / "monitoring",
        /// Testing of systems.
        Testing = "TESTING" / "testing",
        /// Security of systems.
        Security = "SECURITY" / "security",
        /// Integration of systems.
        Integration = "INTEGRATION" / "integration",
        /// Adaptation to a client.
        Customization = "CUSTOMIZATION" / "customization",
        /// Training of models or people.
        Training = "TRAINING" / "training",
        /// Support of users.
        Support = "SUPPORT" / "support",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_twenty() {
        assert_eq!(ServiceCategory::ALL.len(), 20);
        assert!(ServiceCategory::ALL.iter().all(|category| category.stored() == category.value().to_uppercase()));
    }
}
