//! Removes a driver's row padding (`bytesperline`).
//!
//! Copies the rows of a buffer, which may be padded, into the rows of a [`Frame`](crate::Frame), which are not. The
//! driver states one padding for all three planes; where a plane's rows are half as long, they are half as far apart.

use v4l::v4l_sys as sys;
use wordsight_detection::{PixelFormat, YuvEncoding};
use wordsight_engines::FrameBuffer;

/// Where the pixels are in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    planes: [Plane; 3],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Plane {
    rows: usize,
    /// Bytes of a row without padding, and from one to the next.
    row: usize,
    stride: usize,
}

impl Layout {
    /// The layout of pictures whose rows are `stride` bytes apart; a stride that is too small says nothing.
    pub(super) fn new(format: PixelFormat, width: usize, height: usize, stride: usize) -> Self {
        let sizes = format.planes(width, height);
        let first_row = sizes[0].0;
        let stride = stride.max(first_row);
        let planes = sizes.map(|(row, rows)| match rows {
            0 => Plane::default(),
            // One padding is told for all planes; where a row is half as long, so is the way to the next.
            _ => Plane { rows, row, stride: stride * row / first_row.max(1) },
        });
        Self { planes }
    }

    /// Bytes that a buffer has to have; the padding of the last row may be missing.
    pub(super) fn len(&self) -> usize {
        let whole: usize = self.planes.iter().map(|plane| plane.rows * plane.stride).sum();
        let last = self.planes.iter().rfind(|plane| plane.rows > 0);
        whole - last.map_or(0, |plane| plane.stride - plane.row)
    }

    /// Writes the rows of `buffer`, which has [`Layout::len`] bytes and more, one after the other.
    pub(super) fn unpack(&self, buffer: &[u8], rows: &mut FrameBuffer) {
        rows.clear();
        rows.reserve(self.planes.iter().map(|plane| plane.rows * plane.row).sum());
        if self.planes.iter().all(|plane| plane.stride == plane.row) {
            rows.extend_from_slice(&buffer[..self.len()]);
            return;
        }
        let mut start = 0;
        for plane in &self.planes {
            for row in 0..plane.rows {
                rows.extend_from_slice(&buffer[start + row * plane.stride..][..plane.row]);
            }
            start += plane.rows * plane.stride;
        }
    }
}

/// What a driver's numbers say of YUV; where they say nothing, what the kernel means by that (`videodev2.h`,
/// `V4L2_MAP_YCBCR_ENC_DEFAULT` and `V4L2_MAP_QUANTIZATION_DEFAULT`).
pub(super) fn encoding(colorspace: u32, ycbcr_encoding: u32, quantization: u32) -> YuvEncoding {
    let is_709 = match ycbcr_encoding {
        sys::v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_601 | sys::v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_XV601 => false,
        // BT.2020 and SMPTE 240M, which no camera of ours gives, are nearer to this than to the other.
        sys::v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_709
        | sys::v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_XV709
        | sys::v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_BT2020
        | sys::v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_BT2020_CONST_LUM
        | sys::v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_SMPTE240M => true,
        _ => matches!(
            colorspace,
            sys::v4l2_colorspace_V4L2_COLORSPACE_REC709
                | sys::v4l2_colorspace_V4L2_COLORSPACE_DCI_P3
                | sys::v4l2_colorspace_V4L2_COLORSPACE_BT2020
                | sys::v4l2_colorspace_V4L2_COLORSPACE_SMPTE240M
        ),
    };
    let is_full = match quantization {
        sys::v4l2_quantization_V4L2_QUANTIZATION_FULL_RANGE => true,
        sys::v4l2_quantization_V4L2_QUANTIZATION_LIM_RANGE => false,
        _ => colorspace == sys::v4l2_colorspace_V4L2_COLORSPACE_JPEG,
    };
    YuvEncoding::of(is_709, is_full)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn rows_without_padding_are_the_frame() {
        for format in PixelFormat::ALL {
            let layout = Layout::new(format, 6, 4, 0);
            assert_eq!(Some(layout.len()), format.frame_len(6, 4), "{format:?}");
            let buffer: Vec<u8> = (0..100).collect();
            let mut rows = FrameBuffer::from(vec![9; 7]);
            layout.unpack(&buffer, &mut rows);
            assert_eq!(*rows, buffer[..layout.len()]);
        }
    }

    #[test]
    fn padding_is_dropped_in_every_plane() {
        for format in PixelFormat::ALL {
            let (packed, padded) = (Layout::new(format, 6, 4, 0), Layout::new(format, 6, 4, 32));
            // Every row of the buffer counts on where the last one stopped, and is filled up with 255.
            let (mut buffer, mut next) = (Vec::new(), 0);
            for plane in padded.planes {
                for _ in 0..plane.rows {
                    buffer.extend((next..).take(plane.row));
                    buffer.extend(vec![255; plane.stride - plane.row]);
                    next += plane.row as u8;
                }
            }
            buffer.truncate(padded.len());
            let mut rows = FrameBuffer::default();
            padded.unpack(&buffer, &mut rows);
            assert_eq!(*rows, (0..packed.len() as u8).collect::<Vec<_>>(), "{format:?}");
        }
    }

    #[test]
    fn a_frame_that_is_as_large_as_the_last_allocates_nothing() {
        for stride in [0, 32] {
            let layout = Layout::new(PixelFormat::Nv12, 6, 4, stride);
            let (buffer, mut rows) = (vec![7; layout.len()], FrameBuffer::default());
            layout.unpack(&buffer, &mut rows);
            let counted = allocation_counter::measure(|| layout.unpack(&buffer, &mut rows));
            assert_eq!(counted.count_total, 0);
        }
    }

    #[test]
    fn colours_are_what_the_driver_says_or_what_the_kernel_means_by_silence() {
        use sys::*;
        let [srgb, jpeg, rec709] = [
            v4l2_colorspace_V4L2_COLORSPACE_SRGB,
            v4l2_colorspace_V4L2_COLORSPACE_JPEG,
            v4l2_colorspace_V4L2_COLORSPACE_REC709,
        ];
        let full = v4l2_quantization_V4L2_QUANTIZATION_FULL_RANGE;
        assert_eq!(encoding(0, 0, 0), YuvEncoding::Bt601);
        assert_eq!(encoding(srgb, 0, 0), YuvEncoding::Bt601);
        assert_eq!(encoding(jpeg, 0, 0), YuvEncoding::Bt601Full);
        assert_eq!(encoding(rec709, 0, 0), YuvEncoding::Bt709);
        assert_eq!(encoding(rec709, v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_601, full), YuvEncoding::Bt601Full);
        assert_eq!(encoding(srgb, v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_709, full), YuvEncoding::Bt709Full);
        assert_eq!(encoding(999, 999, 999), YuvEncoding::Bt601);
    }
}
