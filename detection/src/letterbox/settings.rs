//! How a student wants frames in its input: size, place, filter, colour of what the frame doesn't cover.

/// The grey around a letterboxed frame, in every channel, where a student doesn't say another colour.
pub const PADDING: u8 = 127;

/// How a frame is placed in an input of another shape.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ResizeMode {
    /// Keeps its shape, in the middle of the padding. The resized frame has a whole number of pixels.
    #[default]
    Letterbox,
    /// Fills the input, whatever its shape: OWL-ViT's.
    Stretch,
    /// Keeps its shape, at the upper left: padded to the input's shape at the right and bottom, then resized, so that
    /// frame and padding blend in the pixels between them. OWLv2's.
    Pad,
}

/// How samples of a frame are weighted in a pixel of the input. All of them are wide enough for the scale: no sample is
/// passed over when a frame shrinks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ResizeFilter {
    /// A triangle, as PIL and torchvision (antialiased) have it.
    #[default]
    Bilinear,
    /// A cubic with a = -0.5, as PIL has it: OWL-ViT's.
    Bicubic,
    /// scikit-image's `resize` with `anti_aliasing`: a Gaussian of sigma (scale - 1) / 2, then two neighbours: OWLv2's.
    Gaussian,
}

/// How a student wants frames in its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResizeSettings {
    /// Width and height of the input, pixels.
    pub input_size: (usize, usize),
    /// Where a frame lies.
    pub mode: ResizeMode,
    /// How it is resampled.
    pub filter: ResizeFilter,
    /// Red, green and blue of what it doesn't cover.
    pub padding: [u8; 3],
}

impl ResizeSettings {
    /// Letterboxed in grey, bilinear: what students of this project take.
    pub const fn letterbox(input_width: usize, input_height: usize) -> Self {
        Self {
            input_size: (input_width, input_height),
            mode: ResizeMode::Letterbox,
            filter: ResizeFilter::Bilinear,
            padding: [PADDING; 3],
        }
    }

    /// Bytes of an input: three planes.
    pub fn input_len(&self) -> usize {
        3 * self.input_size.0 * self.input_size.1
    }

    /// Makes the whole input padding.
    pub(super) fn fill(&self, input: &mut [u8]) {
        let plane = (input.len() / 3).max(1);
        input.chunks_mut(plane).zip(self.padding).for_each(|(plane, colour)| plane.fill(colour));
    }
}

macro_rules! names {
    ($type:ty { $($variant:ident: $name:literal),* }) => {
        impl $type {
            /// Its names, as a student's file has them.
            pub const NAMES: &[&str] = &[$($name),*];

            /// By its name in a student's file.
            pub fn of_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Its name in a student's file.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }
        }
    };
}

names!(ResizeMode { Letterbox: "letterbox", Stretch: "stretch", Pad: "pad" });
names!(ResizeFilter { Bilinear: "bilinear", Bicubic: "bicubic", Gaussian: "gaussian" });
