//! Sample data, metrics, running a model, and gathering evidence
