//! What is done to a sum once it is whole, while it is at hand.

use crate::FusedError;

/// What is done to the sums of a layer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// Added to each row's, or filter's, sums; one number for each.
    pub bias: Option<&'a [f32]>,
    /// What the outputs go through then.
    pub activation: Activation,
}

impl Epilogue<'_> {
    /// What the sums of row number `row` begin with.
    #[inline(always)]
    pub(crate) fn start(&self, row: usize) -> f32 {
        self.bias.and_then(|bias| bias.get(row)).copied().unwrap_or(0.0)
    }
}

/// A function of each output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// They stay what they are.
    #[default]
    Identity,
    /// Negative ones become zero.
    Relu,
}

impl Activation {
    /// The activation that the attribute `activation` names; empty where a node has none.
    ///
    /// # Errors
    /// [`FusedError::Attributes`] where it is unknown, as in a file of a newer version.
    pub fn named(name: &str) -> Result<Self, FusedError> {
        match name {
            "" => Ok(Self::Identity),
            "Relu" => Ok(Self::Relu),
            _ => Err(FusedError::Attributes(format!("this version does not know the activation `{name}`; update it"))),
        }
    }

    /// Applies it to `outputs`.
    #[inline(always)]
    pub(crate) fn apply(self, outputs: &mut [f32]) {
        if self == Self::Relu {
            // What is no number stays so.
            outputs.iter_mut().for_each(|output| *output = if *output < 0.0 { 0.0 } else { *output });
        }
    }
}
