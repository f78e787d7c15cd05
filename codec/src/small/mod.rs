//! Adaptive binary context mixing.
