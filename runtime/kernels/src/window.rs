//! How a window moves over an image: ONNX's attributes of `Conv`, and the size of what comes out.

/// A window of two dimensions: height first, then width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Taps along each axis; not 0.
    pub kernel: [usize; 2],
    /// Steps from one place of the window to the next; not 0.
    pub strides: [usize; 2],
    /// Steps from one tap to the next; not 0.
    pub dilations: [usize; 2],
    /// What stands around an image.
    pub padding: Padding,
}

/// Zeros around an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// So many before and behind it, along each axis.
    Explicit {
        /// Above, and to the left.
        before: [usize; 2],
        /// Below, and to the right.
        behind: [usize; 2],
    },
    /// As many as let an output have the size of the input over the stride; an odd one behind.
    SameUpper,
    /// The same; an odd one before.
    SameLower,
}

/// Where a window goes on an image of some size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Height and width of what comes out.
    pub size: [usize; 2],
    /// Zeros above, and to the left.
    pub before: [usize; 2],
}

/// What a node says of its window; what it leaves out is empty.
#[derive(Debug, Clone, Default)]
pub struct WindowAttributes {
    /// `strides`.
    pub strides: Vec<i64>,
    /// `dilations`.
    pub dilations: Vec<i64>,
    /// `pads`: all before, then all behind.
    pub pads: Vec<i64>,
    /// `auto_pad`.
    pub auto_pad: String,
}

impl Window {
    /// The window of a filter of one or two dimensions, as ONNX's `Conv` (operator set 11) defines it.
    ///
    /// # Errors
    /// What is wrong with the attributes, in words.
    pub fn new(kernel: &[usize], attributes: &WindowAttributes) -> Result<Self, String> {
        let axes = kernel.len();
        if !(1..=2).contains(&axes) || kernel.contains(&0) {
            return Err(format!("filters of {axes} dimensions are not supported, or have no elements"));
        }
        let kernel = as_plane(kernel, 1);
        let steps = |name: &str, given: &[i64]| -> Result<[usize; 2], String> {
            let read: Option<Vec<usize>> = given.iter().map(|&step| usize::try_from(step).ok()).collect();
            match read {
                Some(steps) if steps.is_empty() => Ok([1, 1]),
                Some(steps) if steps.len() == axes && !steps.contains(&0) => Ok(as_plane(&steps, 1)),
                _ => Err(format!("{name} {given:?} do not fit a filter of {axes} dimensions")),
            }
        };
        let (strides, dilations) = (steps("strides", &attributes.strides)?, steps("dilations", &attributes.dilations)?);
        let padding = match attributes.auto_pad.as_str() {
            "SAME_UPPER" => Padding::SameUpper,
            "SAME_LOWER" => Padding::SameLower,
            "VALID" => Padding::Explicit { before: [0, 0], behind: [0, 0] },
            "" | "NOTSET" => {
                let pads: Option<Vec<usize>> = attributes.pads.iter().map(|&pad| usize::try_from(pad).ok()).collect();
                match pads {
                    Some(pads) if pads.is_empty() => Padding::Explicit { before: [0, 0], behind: [0, 0] },
                    Some(pads) if pads.len() == 2 * axes => {
                        Padding::Explicit { before: as_plane(&pads[..axes], 0), behind: as_plane(&pads[axes..], 0) }
                    }
                    _ => return Err(format!("pads {:?} do not fit a filter of {axes} dimensions", attributes.pads)),
                }
            }
            other => return Err(format!("auto_pad `{other}` is unknown")),
        };
        Ok(Self { kernel, strides, dilations, padding })
    }

    /// Taps of a window; `None` where they are more than can be counted.
    pub fn taps(&self) -> Option<usize> {
        self.kernel[0].checked_mul(self.kernel[1])
    }

    /// Where the window goes on an image of `size`; `None` where the image is smaller than the window.
    pub fn place(&self, size: [usize; 2]) -> Option<Place> {
        let mut place = Place { size: [0; 2], before: [0; 2] };
        for axis in 0..2 {
            let reach = (self.kernel[axis] - 1).checked_mul(self.dilations[axis])?.checked_add(1)?;
            let stride = self.strides[axis];
            match self.padding {
                Padding::Explicit { before, behind } => {
                    let padded = size[axis].checked_add(before[axis])?.checked_add(behind[axis])?;
                    place.size[axis] = padded.checked_sub(reach)? / stride + 1;
                    place.before[axis] = before[axis];
                }
                Padding::SameUpper | Padding::SameLower => {
                    place.size[axis] = size[axis].div_ceil(stride);
                    let needed = place.size[axis].checked_sub(1)?.checked_mul(stride)?.checked_add(reach)?;
                    let padding = needed.saturating_sub(size[axis]);
                    place.before[axis] =
                        if self.padding == Padding::SameUpper { padding / 2 } else { padding.div_ceil(2) };
                }
            }
        }
        Some(place)
    }
}

/// Numbers along one axis or two, as numbers along two: one axis is the second.
fn as_plane(numbers: &[usize], missing: usize) -> [usize; 2] {
    match numbers {
        &[first, second, ..] => [first, second],
        &[only] => [missing, only],
        [] => [missing; 2],
    }
}
