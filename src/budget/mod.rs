//! The budget search: the smallest file whose loss stays within a bound, or the best that fits a number of bytes.
//!
//! One number says how good the output is to be, and with it every weight's step: the price of a bit is the same in all
//! of them, and sensitivities make their errors comparable. The search bisects that number. Candidates are measured on
//! one half of the test samples; what is chosen is held against the other half, which the search had not seen, and gives
//! way to a finer one where it breaks the bound there, or is not far enough from it for the [`Confidence`] that is asked.
//!
//! | module | what |
//! |---|---|
//! | [`goal`] | what is asked: bound, metric, floors of single classes |
//! | [`bisection`] | which quality to try next |
//! | [`sparsity`] | how sparse each layer may be |
//! | [`evaluator`] | what a search asks of the world: candidates, and what samples say of them |
//! | [`mod@search`] | the search itself |
//! | `judge` | the original beside a candidate, on either half of the samples |
//! | [`trace`] | what a search tried, what it chose, and what was confirmed |

pub mod bisection;
pub mod evaluator;
pub mod goal;
pub(crate) mod judge;
pub mod search;
pub mod sparsity;
pub mod trace;

pub use evaluator::{Evaluator, Measured, Side};
pub use goal::{Confidence, Floor, FloorMeasure, Goal};
pub use trace::{Budget, Candidate, Confirmation, FoundSparsity, LayerSparsity, Search, Source};
