//! Frames as cameras give them.

/// How the bytes of a frame stand for its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PixelFormat {
    /// Rows of pixels, three bytes each: red, green, blue.
    #[default]
    Rgb,
    /// Rows of pairs of pixels, four bytes each: Y, U, Y, V (4:2:2). The width is even.
    Yuyv,
    /// Rows of Y, then rows of U and V by turns, one pair for two by two pixels (4:2:0). Both sides are
    /// even.
    Nv12,
}

impl PixelFormat {
    /// Bytes of a frame of `width` by `height` pixels without padding between rows, or `None` where there is
    /// no such frame: of no pixels, or with an odd side where pixels share their colour.
    pub fn frame_len(self, width: usize, height: usize) -> Option<usize> {
        let pixels = width.checked_mul(height).filter(|&pixels| pixels > 0)?;
        match self {
            Self::Rgb => pixels.checked_mul(3),
            Self::Yuyv if width.is_multiple_of(2) => pixels.checked_mul(2),
            Self::Nv12 if width.is_multiple_of(2) && height.is_multiple_of(2) => {
                Some(pixels.checked_mul(3)? / 2)
            }
            Self::Yuyv | Self::Nv12 => None,
        }
    }
}

/// How YUV stands for RGB. Cameras seldom say; most webcams and Argus mean the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum YuvEncoding {
    /// ITU-R BT.601, Y from 16 to 235.
    #[default]
    Bt601,
    /// ITU-R BT.601, Y from 0 to 255, as JPEG has it.
    Bt601Full,
    /// ITU-R BT.709, Y from 16 to 235.
    Bt709,
}

/// What makes RGB of YUV: red = (Y - `y_offset`) · `y_scale` + `red_v` · (V - 128), and so on.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct YuvFactors {
    pub y_offset: f32,
    pub y_scale: f32,
    pub red_v: f32,
    pub green_u: f32,
    pub green_v: f32,
    pub blue_u: f32,
}

impl YuvEncoding {
    /// Its factors, from the weights of red and blue in luma (BT.601 2.5.1, BT.709 3.2).
    pub fn factors(self) -> YuvFactors {
        let (red, blue) = match self {
            Self::Bt601 | Self::Bt601Full => (0.299, 0.114),
            Self::Bt709 => (0.2126, 0.0722),
        };
        let (y_offset, y_scale, chroma): (f64, f64, f64) = match self {
            Self::Bt601Full => (0.0, 1.0, 1.0),
            Self::Bt601 | Self::Bt709 => (16.0, 255.0 / 219.0, 255.0 / 224.0),
        };
        let green = 1.0 - red - blue;
        let (red_v, blue_u) = (2.0 * (1.0 - red) * chroma, 2.0 * (1.0 - blue) * chroma);
        YuvFactors {
            y_offset: y_offset as f32,
            y_scale: y_scale as f32,
            red_v: red_v as f32,
            green_u: (-blue_u * blue / green) as f32,
            green_v: (-red_v * red / green) as f32,
            blue_u: blue_u as f32,
        }
    }
}

impl YuvFactors {
    /// RGB of one pixel, unrounded and unclamped. The kernel on the GPU does the same sums in the same order.
    pub fn rgb(&self, [y, u, v]: [f32; 3]) -> [f32; 3] {
        let (luma, u, v) = ((y - self.y_offset) * self.y_scale, u - 128.0, v - 128.0);
        [luma + self.red_v * v, luma + (self.green_u * u + self.green_v * v), luma + self.blue_u * u]
    }
}

/// A frame, borrowed: its rows stand one after the other without padding.
#[derive(Debug, Clone, Copy)]
pub struct FrameView<'a> {
    /// [`PixelFormat::frame_len`] bytes.
    pub bytes: &'a [u8],
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// What the bytes mean.
    pub format: PixelFormat,
    /// And what YUV means, where they are YUV.
    pub encoding: YuvEncoding,
}

impl<'a> FrameView<'a> {
    /// An RGB frame.
    pub fn rgb(bytes: &'a [u8], width: usize, height: usize) -> Self {
        Self { bytes, width, height, format: PixelFormat::Rgb, encoding: YuvEncoding::default() }
    }

    /// Whether the bytes are as many as the size and the format say.
    pub fn is_whole(&self) -> bool {
        self.format.frame_len(self.width, self.height) == Some(self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_black_and_the_primaries_of_each_encoding_are_what_the_standard_says() {
        // BT.601 and BT.709 colour bars at 100%, rounded, from the standards' own equations.
        let bars = [
            (YuvEncoding::Bt601, [235, 128, 128], [255, 255, 255]),
            (YuvEncoding::Bt601, [16, 128, 128], [0, 0, 0]),
            (YuvEncoding::Bt601, [81, 90, 240], [255, 0, 0]),
            (YuvEncoding::Bt601, [145, 54, 34], [0, 255, 0]),
            (YuvEncoding::Bt601, [41, 240, 110], [0, 0, 255]),
            (YuvEncoding::Bt601Full, [76, 85, 255], [254, 0, 0]),
            (YuvEncoding::Bt709, [63, 102, 240], [255, 0, 0]),
            (YuvEncoding::Bt709, [173, 42, 26], [0, 255, 0]),
            (YuvEncoding::Bt709, [32, 240, 118], [0, 0, 255]),
        ];
        for (encoding, yuv, rgb) in bars {
            let found = encoding.factors().rgb(yuv.map(|x| x as f32));
            for (found, wanted) in found.into_iter().zip(rgb) {
                assert!((found - wanted as f32).abs() < 2.5, "{encoding:?} {yuv:?}: {found} for {wanted}");
            }
        }
    }

    #[test]
    fn a_frame_with_shared_colour_has_even_sides() {
        assert_eq!(PixelFormat::Rgb.frame_len(3, 5), Some(45));
        assert_eq!(PixelFormat::Yuyv.frame_len(4, 5), Some(40));
        assert_eq!(PixelFormat::Nv12.frame_len(4, 6), Some(36));
        assert_eq!(PixelFormat::Yuyv.frame_len(3, 4), None);
        assert_eq!(PixelFormat::Nv12.frame_len(4, 5), None);
        assert_eq!(PixelFormat::Rgb.frame_len(0, 5), None);
        assert_eq!(PixelFormat::Rgb.frame_len(usize::MAX, 2), None);
    }
}
