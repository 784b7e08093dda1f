//! Frames as cameras give them.

/// The pixel format of a frame's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PixelFormat {
    /// Rows of pixels, three bytes each: red, green, blue.
    #[default]
    Rgb,
    /// Rows of pairs of pixels, four bytes each: Y, U, Y, V (4:2:2). The width is even.
    Yuyv,
    /// The same with U, Y, V, Y: what many cameras on a Jetson's serial links send. The width is even.
    Uyvy,
    /// Rows of Y, then rows of U and V by turns, one pair for two by two pixels (4:2:0). Both sides are
    /// even.
    Nv12,
    /// Rows of Y, then rows of U, then rows of V, one of each for two by two pixels (4:2:0): what video
    /// decoders on processors give. Both sides are even.
    I420,
    /// Rows of grey pixels, one byte each.
    Grey,
}

impl PixelFormat {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Rgb, Self::Yuyv, Self::Uyvy, Self::Nv12, Self::I420, Self::Grey];

    /// Bytes of a frame of `width` by `height` pixels without padding between rows, or `None` where there is
    /// no such frame: of no pixels, or with an odd side where pixels share their colour.
    pub fn frame_len(self, width: usize, height: usize) -> Option<usize> {
        let pixels = width.checked_mul(height).filter(|&pixels| pixels > 0)?;
        match self {
            Self::Rgb => pixels.checked_mul(3),
            Self::Grey => Some(pixels),
            Self::Yuyv | Self::Uyvy if width.is_multiple_of(2) => pixels.checked_mul(2),
            Self::Nv12 | Self::I420 if width.is_multiple_of(2) && height.is_multiple_of(2) => {
                Some(pixels.checked_mul(3)? / 2)
            }
            Self::Yuyv | Self::Uyvy | Self::Nv12 | Self::I420 => None,
        }
    }

    /// The planes of a frame of `width` by `height` pixels, one after the other: bytes a row, and rows. There are as many as
    /// the format has; of others both are 0.
    pub fn planes(self, width: usize, height: usize) -> [(usize, usize); 3] {
        const NONE: (usize, usize) = (0, 0);
        match self {
            Self::Rgb => [(3 * width, height), NONE, NONE],
            Self::Yuyv | Self::Uyvy => [(2 * width, height), NONE, NONE],
            Self::Grey => [(width, height), NONE, NONE],
            Self::Nv12 => [(width, height), (width, height / 2), NONE],
            Self::I420 => [(width, height), (width / 2, height / 2), (width / 2, height / 2)],
        }
    }

    /// Whether the bytes are Y, U and V, and have to become red, green and blue.
    pub fn is_yuv(self) -> bool {
        !matches!(self, Self::Rgb | Self::Grey)
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
    /// ITU-R BT.709, Y from 0 to 255.
    Bt709Full,
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
    /// The encoding with the weights of BT.709, or else of BT.601, and with Y from 0 to 255, or else from 16 to 235.
    pub fn of(is_709: bool, is_full: bool) -> Self {
        match (is_709, is_full) {
            (false, false) => Self::Bt601,
            (false, true) => Self::Bt601Full,
            (true, false) => Self::Bt709,
            (true, true) => Self::Bt709Full,
        }
    }

    /// Its factors, from the weights of red and blue in luma (BT.601 2.5.1, BT.709 3.2).
    pub fn factors(self) -> YuvFactors {
        let (red, blue) = match self {
            Self::Bt601 | Self::Bt601Full => (0.299, 0.114),
            Self::Bt709 | Self::Bt709Full => (0.2126, 0.0722),
        };
        let (y_offset, y_scale, chroma): (f64, f64, f64) = match self {
            Self::Bt601Full | Self::Bt709Full => (0.0, 1.0, 1.0),
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
    pub fn rgb(&self, yuv: [f32; 3]) -> [f32; 3] {
        self.rgb_of_share(yuv, 1.0)
    }

    /// The same of sums whose weights make `share`, from 0 to 1.
    #[inline(always)]
    pub(crate) fn rgb_of_share(&self, [y, u, v]: [f32; 3], share: f32) -> [f32; 3] {
        let luma = (y - share * self.y_offset) * self.y_scale;
        let (u, v) = (u - share * 128.0, v - share * 128.0);
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

    /// Fills `rgb` with the whole frame as rows of RGB pixels, for people to look at: each pixel has the shared
    /// colour as it is. The student's input is made by [`crate::Resampler`], which needs no such frame.
    ///
    /// # Panics
    /// When the frame isn't whole: a mistake in the calling code.
    pub fn write_rgb(&self, rgb: &mut Vec<u8>) {
        assert!(self.is_whole(), "a {:?} frame of {}x{}", self.format, self.width, self.height);
        rgb.resize(3 * self.width * self.height, 0);
        let channels = self.format.channels(self.width, self.height);
        let factors = self.format.is_yuv().then(|| self.encoding.factors());
        for (y, row) in rgb.chunks_exact_mut(3 * self.width).enumerate() {
            for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                let samples = channels.map(|channel| self.bytes[channel.byte_of(x, y)]);
                *pixel = match &factors {
                    // `as` clamps.
                    Some(factors) => factors.rgb(samples.map(f32::from)).map(|value| (value + 0.5) as u8),
                    None => samples,
                };
            }
        }
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
            (YuvEncoding::Bt709Full, [54, 99, 255], [254, 0, 0]),
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
        assert_eq!(PixelFormat::I420.frame_len(4, 6), Some(36));
        assert_eq!(PixelFormat::Uyvy.frame_len(4, 5), Some(40));
        assert_eq!(PixelFormat::Grey.frame_len(3, 5), Some(15));
        assert_eq!(PixelFormat::Yuyv.frame_len(3, 4), None);
        assert_eq!(PixelFormat::Uyvy.frame_len(3, 4), None);
        assert_eq!(PixelFormat::I420.frame_len(5, 4), None);
        assert_eq!(PixelFormat::Nv12.frame_len(4, 5), None);
        assert_eq!(PixelFormat::Rgb.frame_len(0, 5), None);
        assert_eq!(PixelFormat::Rgb.frame_len(usize::MAX, 2), None);
    }

    #[test]
    fn red_is_red_in_every_format_and_a_neighbour_of_another_colour_keeps_its_own() {
        // Two by four pixels: red on the left, green on the right; grey has no colours.
        let (red, green) = ([81, 90, 240], [145, 54, 34]);
        let [[ry, ru, rv], [gy, gu, gv]] = [red, green];
        let frames = [
            (PixelFormat::Yuyv, [[ry, ru, ry, rv, gy, gu, gy, gv]; 2].concat()),
            (PixelFormat::Uyvy, [[ru, ry, rv, ry, gu, gy, gv, gy]; 2].concat()),
            (PixelFormat::Nv12, [[ry, ry, gy, gy], [ry, ry, gy, gy], [ru, rv, gu, gv]].concat()),
            (PixelFormat::I420, [&[ry, ry, gy, gy], &[ry, ry, gy, gy], &[ru, gu][..], &[rv, gv]].concat()),
            (PixelFormat::Rgb, [[255, 0, 0, 255, 0, 0, 0, 255, 0, 0, 255, 0]; 2].concat()),
        ];
        for (format, bytes) in frames {
            let view = FrameView { format, ..FrameView::rgb(&bytes, 4, 2) };
            let mut rgb = Vec::new();
            view.write_rgb(&mut rgb);
            for (at, pixel) in rgb.as_chunks::<3>().0.iter().enumerate() {
                let wanted: [u8; 3] = if at % 4 < 2 { [255, 0, 0] } else { [0, 255, 0] };
                let near = pixel.iter().zip(wanted).all(|(found, wanted)| found.abs_diff(wanted) <= 2);
                assert!(near, "{format:?}: pixel {at} is {pixel:?}");
            }
        }
        let mut rgb = Vec::new();
        FrameView { format: PixelFormat::Grey, ..FrameView::rgb(&[7, 9], 2, 1) }.write_rgb(&mut rgb);
        assert_eq!(rgb, [7, 7, 7, 9, 9, 9]);
    }
}
