//! The letterbox on the GPU, for frames of one size and pixel format.

use cudarc::driver::{CudaSlice, DeviceRepr, LaunchConfig};
use wordsight_detection::{
    Channel, FrameView, Letterbox, PixelFormat, ResizeSettings, Tables, Taps, YuvEncoding,
};

use super::device::{Device, GpuError};
use super::kernels::{Kernel, Kernels, blocks};

/// Threads of a block, along x and y.
const BLOCK: (usize, usize) = (32, 8);

/// `kernels.cu`'s `Channel`, field by field.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct ChannelParameters {
    column_spans: u64,
    column_weights: u64,
    row_spans: u64,
    row_weights: u64,
    sums: u64,
    column_stride: i32,
    row_stride: i32,
    offset: i32,
    sample_bytes: i32,
    row_bytes: i32,
    samples: i32,
}

/// `kernels.cu`'s `Letterbox`, field by field.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Parameters {
    channels: [ChannelParameters; 3],
    frame: u64,
    input: u64,
    column_cover: u64,
    row_cover: u64,
    resized_width: i32,
    resized_height: i32,
    pad_x: i32,
    pad_y: i32,
    input_width: i32,
    input_height: i32,
    padding: [i32; 3],
    is_yuv: i32,
    y_offset: f32,
    y_scale: f32,
    red_v: f32,
    green_u: f32,
    green_v: f32,
    blue_u: f32,
}

// SAFETY: plain numbers in C's layout.
unsafe impl DeviceRepr for Parameters {}

/// What frames have in common while none of the letterbox's tables change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub width: usize,
    pub height: usize,
    pub format: PixelFormat,
    pub encoding: YuvEncoding,
}

impl Shape {
    /// The shape of a frame whose bytes are as many as it says, few enough for the kernel to count.
    pub fn of(frame: &FrameView<'_>) -> Result<Self, GpuError> {
        let FrameView { bytes, width, height, format, encoding } = *frame;
        if !frame.is_whole() || i32::try_from(bytes.len()).is_err() {
            let format = format!("{format:?}");
            return Err(GpuError::BadFrame { width, height, bytes: bytes.len(), format });
        }
        Ok(Self { width, height, format, encoding })
    }
}

/// The letterbox for frames of one shape.
pub(super) struct GpuLetterbox {
    shape: Shape,
    /// The frame on the GPU.
    pub frame: CudaSlice<u8>,
    parameters: Parameters,
    input_size: (usize, usize),
    /// The most samples that a row of a channel has, and rows.
    columns: (usize, usize),
    _tables: DeviceTables,
}

/// What the kernels read and write beside the frame and the input.
#[derive(Default)]
struct DeviceTables {
    spans: Vec<CudaSlice<i32>>,
    weights: Vec<CudaSlice<f32>>,
    sums: Vec<CudaSlice<f32>>,
    covers: Vec<CudaSlice<f32>>,
    /// The most samples that a row of a channel has.
    most_samples: usize,
}

impl DeviceTables {
    /// Copies taps, and returns where their spans and weights lie and how many weights a pixel has.
    fn add_taps(&mut self, device: &Device, taps: &Taps) -> Result<(u64, u64, i32), GpuError> {
        let copies = (device.copy_of(taps.spans.as_flattened())?, device.copy_of(&taps.weights)?);
        let addresses = (device.address(&copies.0), device.address(&copies.1), number(taps.stride));
        self.spans.push(copies.0);
        self.weights.push(copies.1);
        Ok(addresses)
    }

    /// Copies how much of each pixel is frame, and returns where that lies.
    fn add_cover(&mut self, device: &Device, cover: &[f32]) -> Result<u64, GpuError> {
        let copy = device.copy_of(cover)?;
        let address = device.address(&copy);
        self.covers.push(copy);
        Ok(address)
    }

    /// The kernels' parameters for a channel that becomes `rows` rows.
    fn add_channel(
        &mut self,
        device: &Device,
        tables: &Tables,
        channel: &Channel,
        rows: usize,
    ) -> Result<ChannelParameters, GpuError> {
        let along = tables.columns(channel);
        let ends = along.spans.iter().map(|[first, count]| usize::try_from(first + count).unwrap_or(0));
        let samples = ends.max().unwrap_or(0);
        self.most_samples = self.most_samples.max(samples);
        let sums = device.zeros::<f32>(samples * rows)?;
        let (column_spans, column_weights, column_stride) = self.add_taps(device, along)?;
        let (row_spans, row_weights, row_stride) = self.add_taps(device, tables.rows(channel))?;
        let parameters = ChannelParameters {
            column_spans,
            column_weights,
            row_spans,
            row_weights,
            sums: device.address(&sums),
            column_stride,
            row_stride,
            offset: number(channel.offset),
            sample_bytes: number(channel.sample_stride),
            row_bytes: number(channel.row_stride),
            samples: number(samples),
        };
        self.sums.push(sums);
        Ok(parameters)
    }
}

/// Every side and offset is shorter than the frame is long, which [`Shape::of`] has checked to fit `i32`.
fn number(size: usize) -> i32 {
    size as i32
}

impl GpuLetterbox {
    /// For frames of a shape that are to come into `input`, three planes, as a student wants them.
    pub fn new(
        device: &Device,
        shape: Shape,
        input: &CudaSlice<u8>,
        resize: &ResizeSettings,
    ) -> Result<Self, GpuError> {
        assert_eq!(input.len(), resize.input_len(), "the planes of a student's input");
        let (input_size, letterbox) = (resize.input_size, Letterbox::of((shape.width, shape.height), resize));
        let (resized, pad) = (letterbox.resized_size(), letterbox.pad());
        let tables = Tables::new(&letterbox, resize.filter);
        let frame = device.zeros(shape.format.frame_len(shape.width, shape.height).unwrap_or(0))?;
        let mut on_device = DeviceTables::default();
        let mut channel = |channel: &Channel| on_device.add_channel(device, &tables, channel, resized.1);
        let [a, b, c] = shape.format.channels(shape.width, shape.height);
        let channels = [channel(&a)?, channel(&b)?, channel(&c)?];
        let [column_cover, row_cover] = tables.cover();
        let (column_cover, row_cover) =
            (on_device.add_cover(device, column_cover)?, on_device.add_cover(device, row_cover)?);
        let factors = shape.encoding.factors();
        let parameters = Parameters {
            channels,
            frame: device.address(&frame),
            input: device.address(input),
            column_cover,
            row_cover,
            resized_width: number(resized.0),
            resized_height: number(resized.1),
            pad_x: number(pad.0),
            pad_y: number(pad.1),
            input_width: number(input_size.0),
            input_height: number(input_size.1),
            padding: resize.padding.map(i32::from),
            is_yuv: i32::from(shape.format.is_yuv()),
            y_offset: factors.y_offset,
            y_scale: factors.y_scale,
            red_v: factors.red_v,
            green_u: factors.green_u,
            green_v: factors.green_v,
            blue_u: factors.blue_u,
        };
        let columns = (on_device.most_samples, resized.1);
        Ok(Self { shape, frame, parameters, input_size, columns, _tables: on_device })
    }

    pub fn is_for(&self, shape: Shape) -> bool {
        self.shape == shape
    }

    /// Queues the letterbox of what `frame` holds then.
    pub fn queue(&self, device: &Device, kernels: &Kernels) -> Result<(), GpuError> {
        let config = |(width, height): (usize, usize), depth: u32| LaunchConfig {
            grid_dim: (blocks(width, BLOCK.0), blocks(height, BLOCK.1), depth),
            block_dim: (BLOCK.0 as u32, BLOCK.1 as u32, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the tables, the sums and the frame are this struct's own and made for these sizes; `input` is the
        // engine's, lives as long as this and was measured in `new`. Taps stay within the frame, as their test has it,
        // and within a row's sums, which are as many as the last tap has it.
        unsafe {
            let columns = config(self.columns, self.parameters.channels.len() as u32);
            kernels.launch(device, Kernel::LetterboxColumns, columns, &self.parameters)?;
            kernels.launch(device, Kernel::LetterboxRows, config(self.input_size, 1), &self.parameters)
        }
    }
}
