//! The budget search: the smallest file whose loss stays within a bound, or the best that fits a number of bytes.
//!
//! | module | what |
//! |---|---|
//! | [`trace`] | what a search tried, what it chose, and what was confirmed |

pub mod trace;

pub use trace::{Budget, Candidate, Confirmation, Search};
