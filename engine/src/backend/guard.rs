//! Panics of a runtime as errors.
//!
//! tract takes much of a graph for granted and panics where it finds something else, an integer division by zero for
//! one. A model may be anything, so that is no fault of ours, and the report of a panic would only alarm people.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether this thread is inside of [`guarded`].
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What `work` gives, or what it said when it panicked; nothing is printed then.
///
/// What `work` has changed by then must not be used any more.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static SILENCED: Once = Once::new();
    SILENCED.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !IS_GUARDED.get() {
                before(panic);
            }
        }));
    });
    let outer = IS_GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    IS_GUARDED.set(outer);
    done.map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_what_it_said() {
        assert_eq!(guarded(|| 7), Ok(7));
        assert_eq!(guarded(|| panic!("no such {}", "axis")), Err::<(), _>("no such axis".to_owned()));
        assert_eq!(guarded(|| guarded(|| panic!("inner"))), Ok(Err::<(), _>("inner".to_owned())));
        assert!(!IS_GUARDED.get());
    }
}
