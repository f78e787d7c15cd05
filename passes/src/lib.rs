//! The compression passes: one file a pass, each rewrites a model
