//! A V4L2 device file and its ioctls.
//!
//! Passes questions and settings to the driver, and gives plain values and the bytes of filled buffers. All `unsafe` of
//! this folder is here.
//!
//! From the `v4l` crate this module takes the kernel's structures, the numbers of the ioctls and the system calls, and
//! nothing above. The crate's `Stream` queues a buffer before it waits for one, so that a wait without a frame spoils
//! the next, and panics when it is dropped and the driver says anything but ENODEV; its `Device` panics at names,
//! controls and colours that it does not know. A camera maker's driver says all that, and a service must survive it.

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::time::Duration;

use v4l::v4l_sys as sys;
use v4l::v4l2::{self, vidioc};

use super::controls::Control;
use super::offers::{Offer, Rate, Size, SizeOffer};

/// More than any camera has of anything, should a driver count without end.
const MOST_ENTRIES: u32 = 128;
const MOST_CONTROLS: u32 = 4096;

/// The kind of buffers that all is about: pictures of one plane, from a camera.
const PICTURES: u32 = sys::v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE;
const MAPPED: u32 = sys::v4l2_memory_V4L2_MEMORY_MMAP;

/// An ioctl and the structure that it takes.
struct Call<T>(vidioc::_IOC_TYPE, PhantomData<T>);

/// A structure of `videodev2.h` as a question begins: all zeros.
fn zeroed<T: Plain>() -> T {
    // SAFETY: zeros are a value of every plain structure.
    unsafe { std::mem::zeroed() }
}

/// A structure of the kernel's that consists of numbers, of pointers that may be null and of unions of both.
///
/// # Safety
/// All zeros are a value of it.
unsafe trait Plain {}

macro_rules! calls {
    ($($name:ident = $number:expr, $structure:ty;)*) => {
        $(const $name: Call<$structure> = Call($number, PhantomData);)*
    };
}

macro_rules! plain {
    // SAFETY: structures of `videodev2.h`, made by bindgen: numbers, pointers and unions of both.
    ($($structure:ty),*) => { $(unsafe impl Plain for $structure {})* };
}

plain!(
    sys::v4l2_capability,
    sys::v4l2_fmtdesc,
    sys::v4l2_frmsizeenum,
    sys::v4l2_frmivalenum,
    sys::v4l2_format,
    sys::v4l2_streamparm,
    sys::v4l2_query_ext_ctrl,
    sys::v4l2_querymenu,
    sys::v4l2_ext_control,
    sys::v4l2_ext_controls,
    sys::v4l2_requestbuffers,
    sys::v4l2_buffer,
    sys::v4l2_event_subscription,
    sys::v4l2_event
);

calls! {
    QUERY_CAPABILITY = vidioc::VIDIOC_QUERYCAP, sys::v4l2_capability;
    ENUM_FORMATS = vidioc::VIDIOC_ENUM_FMT, sys::v4l2_fmtdesc;
    ENUM_SIZES = vidioc::VIDIOC_ENUM_FRAMESIZES, sys::v4l2_frmsizeenum;
    ENUM_INTERVALS = vidioc::VIDIOC_ENUM_FRAMEINTERVALS, sys::v4l2_frmivalenum;
    GET_FORMAT = vidioc::VIDIOC_G_FMT, sys::v4l2_format;
    SET_FORMAT = vidioc::VIDIOC_S_FMT, sys::v4l2_format;
    GET_PARAMETERS = vidioc::VIDIOC_G_PARM, sys::v4l2_streamparm;
    SET_PARAMETERS = vidioc::VIDIOC_S_PARM, sys::v4l2_streamparm;
    GET_INPUT = vidioc::VIDIOC_G_INPUT, libc::c_int;
    QUERY_CONTROL = vidioc::VIDIOC_QUERY_EXT_CTRL, sys::v4l2_query_ext_ctrl;
    QUERY_MENU = vidioc::VIDIOC_QUERYMENU, sys::v4l2_querymenu;
    SET_CONTROLS = vidioc::VIDIOC_S_EXT_CTRLS, sys::v4l2_ext_controls;
    REQUEST_BUFFERS = vidioc::VIDIOC_REQBUFS, sys::v4l2_requestbuffers;
    QUERY_BUFFER = vidioc::VIDIOC_QUERYBUF, sys::v4l2_buffer;
    QUEUE_BUFFER = vidioc::VIDIOC_QBUF, sys::v4l2_buffer;
    DEQUEUE_BUFFER = vidioc::VIDIOC_DQBUF, sys::v4l2_buffer;
    STREAM_ON = vidioc::VIDIOC_STREAMON, u32;
    STREAM_OFF = vidioc::VIDIOC_STREAMOFF, u32;
    // These two the crate lacks.
    DEQUEUE_EVENT = ioctl_number(READS, 89, size_of::<sys::v4l2_event>()), sys::v4l2_event;
    SUBSCRIBE_EVENT = ioctl_number(WRITES, 90, size_of::<sys::v4l2_event_subscription>()), sys::v4l2_event_subscription;
}

const WRITES: vidioc::_IOC_TYPE = 1;
const READS: vidioc::_IOC_TYPE = 2;

/// `_IOC` of the kernel's `asm-generic/ioctl.h`, for the letter of video.
const fn ioctl_number(direction: vidioc::_IOC_TYPE, number: u8, size: usize) -> vidioc::_IOC_TYPE {
    direction << 30
        | (size as vidioc::_IOC_TYPE) << 16
        | (b'V' as vidioc::_IOC_TYPE) << 8
        | number as vidioc::_IOC_TYPE
}

/// What a device says about itself.
#[derive(Debug, Clone)]
pub(super) struct Capability {
    pub(super) driver: String,
    pub(super) card: String,
    pub(super) bus: String,
    bits: u32,
}

impl Capability {
    fn has(&self, bits: u32) -> bool {
        self.bits & bits != 0
    }

    /// Whether it gives pictures of one plane.
    pub(super) fn captures(&self) -> bool {
        // A codec takes pictures too, and gives others for them.
        self.has(sys::V4L2_CAP_VIDEO_CAPTURE) && !self.has(sys::V4L2_CAP_VIDEO_M2M)
    }

    /// Whether it gives pictures, but in several buffers each.
    pub(super) fn captures_in_planes(&self) -> bool {
        self.has(sys::V4L2_CAP_VIDEO_CAPTURE_MPLANE) && !self.has(sys::V4L2_CAP_VIDEO_M2M_MPLANE)
    }

    /// Whether it only tells about another device's pictures.
    pub(super) fn is_metadata(&self) -> bool {
        self.has(sys::V4L2_CAP_META_CAPTURE)
    }

    /// Whether its buffers can be mapped.
    pub(super) fn streams(&self) -> bool {
        self.has(sys::V4L2_CAP_STREAMING)
    }
}

/// A picture's format, as the driver has it set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PictureFormat {
    pub(super) fourcc: [u8; 4],
    pub(super) width: u32,
    pub(super) height: u32,
    /// Bytes from one row to the next; 0 where that means nothing.
    pub(super) stride: u32,
    pub(super) colorspace: u32,
    pub(super) ycbcr_encoding: u32,
    pub(super) quantization: u32,
}

/// An open device file.
#[derive(Debug)]
pub(super) struct Device {
    file: File,
    /// Whether the driver tells when the picture's source changes.
    watches_source: bool,
}

impl Device {
    /// Opens a device file; nothing of it ever waits but [`Stream::wait`].
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
        Ok(Self { file: options.open(path)?, watches_source: false })
    }

    /// Asks the driver. `argument` goes in and comes back changed.
    fn ask<T>(&self, call: &Call<T>, argument: &mut T) -> io::Result<()> {
        loop {
            let argument = ptr::from_mut(argument).cast::<c_void>();
            // SAFETY: the kernel reads and writes as many bytes as the ioctl's number says, which is the size of the
            // structure that it stands beside above, and the argument is one of these. The only one with a pointer in
            // it that the kernel follows is that of the controls, made where it is used.
            match unsafe { v4l2::ioctl(self.file.as_raw_fd(), call.0, argument) } {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                answered => return answered,
            }
        }
    }

    /// Asks for one entry of a list after the other until there are no more.
    fn ask_all<T: Copy, U>(
        &self,
        call: &Call<T>,
        entry: impl Fn(u32) -> T,
        read: impl Fn(&T) -> Option<U>,
    ) -> Vec<U> {
        let mut found = Vec::new();
        for index in 0..MOST_ENTRIES {
            let mut argument = entry(index);
            if self.ask(call, &mut argument).is_err() {
                break;
            }
            found.extend(read(&argument));
        }
        found
    }

    pub(super) fn capability(&self) -> io::Result<Capability> {
        let mut answer = zeroed::<sys::v4l2_capability>();
        self.ask(&QUERY_CAPABILITY, &mut answer)?;
        let of_node = answer.capabilities & sys::V4L2_CAP_DEVICE_CAPS != 0;
        Ok(Capability {
            driver: text(&answer.driver),
            card: text(&answer.card),
            bus: text(&answer.bus_info),
            bits: if of_node { answer.device_caps } else { answer.capabilities },
        })
    }

    /// Everything that the camera says it can give. Where sizes come as a range, rates are those of `wanted` or, outside
    /// of the range, of the largest.
    pub(super) fn offers(&self, wanted: Option<(u32, u32)>) -> Vec<Offer> {
        let question = |index| sys::v4l2_fmtdesc { index, type_: PICTURES, ..zeroed() };
        let formats = self.ask_all(&ENUM_FORMATS, question, |answer| Some(answer.pixelformat));
        formats.into_iter().map(|format| self.offer(format, wanted)).collect()
    }

    fn offer(&self, format: u32, wanted: Option<(u32, u32)>) -> Offer {
        let question = |index| sys::v4l2_frmsizeenum { index, pixel_format: format, ..zeroed() };
        let sizes = self.ask_all(&ENUM_SIZES, question, size_of_answer);
        let sizes = sizes.into_iter().map(|size| {
            let (width, height) = match &size {
                Size::Exact(width, height) => (*width, *height),
                Size::Range { max, .. } => wanted.filter(|&wanted| size.holds(wanted)).unwrap_or(*max),
            };
            SizeOffer { size, rates: self.rates(format, width, height) }
        });
        Offer { fourcc: format.to_le_bytes(), sizes: sizes.collect() }
    }

    fn rates(&self, format: u32, width: u32, height: u32) -> Vec<Rate> {
        let question =
            |index| sys::v4l2_frmivalenum { index, pixel_format: format, width, height, ..zeroed() };
        self.ask_all(&ENUM_INTERVALS, question, rate_of_answer)
    }

    pub(super) fn format(&self) -> io::Result<PictureFormat> {
        let mut answer = sys::v4l2_format { type_: PICTURES, ..zeroed() };
        self.ask(&GET_FORMAT, &mut answer)?;
        Ok(picture_format(&answer))
    }

    /// Asks for a format; what comes back is what the driver has made of it.
    pub(super) fn set_format(
        &self,
        fourcc: [u8; 4],
        (width, height): (u32, u32),
    ) -> io::Result<PictureFormat> {
        let mut question = sys::v4l2_format { type_: PICTURES, ..zeroed() };
        // The rest stays zero: the driver's own choice of rows, fields and colours.
        question.fmt.pix.width = width;
        question.fmt.pix.height = height;
        question.fmt.pix.pixelformat = u32::from_le_bytes(fourcc);
        self.ask(&SET_FORMAT, &mut question)?;
        Ok(picture_format(&question))
    }

    /// The time from one frame to the next in seconds, as a fraction; `None` where the driver doesn't say.
    pub(super) fn interval(&self) -> Option<(u32, u32)> {
        let mut answer = sys::v4l2_streamparm { type_: PICTURES, ..zeroed() };
        self.ask(&GET_PARAMETERS, &mut answer).ok()?;
        interval_of(&answer)
    }

    /// Asks for a time from one frame to the next; what comes back is what the driver has made of it.
    pub(super) fn set_interval(
        &self,
        (numerator, denominator): (u32, u32),
    ) -> io::Result<Option<(u32, u32)>> {
        let mut question = sys::v4l2_streamparm { type_: PICTURES, ..zeroed() };
        question.parm.capture.timeperframe = sys::v4l2_fract { numerator, denominator };
        self.ask(&SET_PARAMETERS, &mut question)?;
        Ok(interval_of(&question))
    }

    /// The controls that take a number.
    pub(super) fn controls(&self) -> Vec<Control> {
        let (mut controls, mut last) = (Vec::new(), 0);
        for _ in 0..MOST_CONTROLS {
            let id = last | sys::V4L2_CTRL_FLAG_NEXT_CTRL;
            let mut answer = sys::v4l2_query_ext_ctrl { id, ..zeroed() };
            // A driver that doesn't move on has said all.
            if self.ask(&QUERY_CONTROL, &mut answer).is_err() || answer.id <= last {
                break;
            }
            last = answer.id;
            controls.extend(Control::new(
                answer.id,
                &text(&answer.name.map(|byte| byte as u8)),
                answer.type_,
                answer.flags,
                (answer.minimum, answer.maximum, answer.step),
            ));
        }
        controls
    }

    /// Whether a menu has an entry of this number.
    pub(super) fn has_menu_entry(&self, control: u32, index: i64) -> bool {
        let Ok(index) = u32::try_from(index) else { return false };
        self.ask(&QUERY_MENU, &mut sys::v4l2_querymenu { id: control, index, ..zeroed() }).is_ok()
    }

    pub(super) fn set_control(&self, id: u32, value: i64, has_64_bits: bool) -> io::Result<()> {
        let mut control = sys::v4l2_ext_control { id, ..zeroed() };
        if has_64_bits {
            control.__bindgen_anon_1.value64 = value;
        } else {
            // The bits of a mask are the kernel's u32, everything else is its i32.
            control.__bindgen_anon_1.value = value as i32;
        }
        // The class stays zero: the control's present value, of whichever class.
        let mut controls =
            sys::v4l2_ext_controls { count: 1, controls: ptr::from_mut(&mut control), ..zeroed() };
        self.ask(&SET_CONTROLS, &mut controls)
    }

    /// Asks to be told when the picture's source changes its size: what is behind an HDMI input may. Most cameras have
    /// no such event, and say so.
    pub(super) fn watch_source(&mut self) {
        // The event carries the number of the input, and comes only to whoever has asked for that one.
        let mut input = 0;
        let _ = self.ask(&GET_INPUT, &mut input);
        let (type_, id) = (sys::V4L2_EVENT_SOURCE_CHANGE, u32::try_from(input).unwrap_or_default());
        let mut subscription = sys::v4l2_event_subscription { type_, id, ..zeroed() };
        self.watches_source = self.ask(&SUBSCRIBE_EVENT, &mut subscription).is_ok();
    }

    /// Whether such an event has come since the last look.
    fn takes_event(&self) -> bool {
        let mut any = false;
        // As many as the kernel keeps, and more.
        for _ in 0..MOST_ENTRIES {
            let mut event = zeroed::<sys::v4l2_event>();
            if self.ask(&DEQUEUE_EVENT, &mut event).is_err() {
                break;
            }
            any |= event.type_ == sys::V4L2_EVENT_SOURCE_CHANGE;
        }
        any
    }
}

/// What a wait has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Nothing yet.
    Nothing,
    /// A buffer is filled.
    Filled,
    /// The picture's source has changed its size.
    SourceChanged,
    /// The driver has failed, or is gone: asking for a buffer tells more.
    Failed,
}

/// A buffer that the driver has filled and that is ours until it is queued again.
#[derive(Debug)]
pub(super) struct Filled {
    index: usize,
    used: usize,
    pub(super) flags: u32,
    /// The driver's own count of frames.
    pub(super) sequence: u32,
    /// By the clock that the flags name.
    pub(super) timestamp: Duration,
}

/// Buffers that the driver fills and this program reads, for as long as this lives.
#[derive(Debug)]
pub(super) struct Stream {
    device: Device,
    buffers: Vec<Mapping>,
}

impl Stream {
    /// Maps up to `count` buffers, gives them all to the driver and starts it.
    pub(super) fn start(device: Device, count: u32) -> io::Result<Self> {
        let mut request = sys::v4l2_requestbuffers { count, type_: PICTURES, memory: MAPPED, ..zeroed() };
        device.ask(&REQUEST_BUFFERS, &mut request)?;
        // From here on whatever fails is undone by the drop.
        let mut stream = Self { device, buffers: Vec::new() };
        for index in 0..request.count {
            let mut buffer = sys::v4l2_buffer { index, type_: PICTURES, memory: MAPPED, ..zeroed() };
            stream.device.ask(&QUERY_BUFFER, &mut buffer)?;
            // SAFETY: the driver was asked for a buffer to be mapped, so it has told an offset.
            let offset = unsafe { buffer.m.offset };
            stream.buffers.push(Mapping::new(&stream.device.file, buffer.length as usize, offset)?);
        }
        if stream.buffers.is_empty() {
            return Err(io::Error::other("the driver has no buffers to give"));
        }
        for index in 0..stream.buffers.len() {
            stream.give(index)?;
        }
        stream.device.ask(&STREAM_ON, &mut PICTURES.clone())?;
        Ok(stream)
    }

    /// How many buffers there are.
    pub(super) fn len(&self) -> usize {
        self.buffers.len()
    }

    /// Waits for a filled buffer.
    pub(super) fn wait(&self, longest: Duration) -> io::Result<Readiness> {
        let events = if self.device.watches_source { libc::POLLIN | libc::POLLPRI } else { libc::POLLIN };
        let mut poll = libc::pollfd { fd: self.device.file.as_raw_fd(), events, revents: 0 };
        // SAFETY: one structure, which lives until the call is back.
        if unsafe { libc::poll(&mut poll, 1, longest.as_millis() as libc::c_int) } < 0 {
            let error = io::Error::last_os_error();
            let interrupted = error.kind() == io::ErrorKind::Interrupted;
            return if interrupted { Ok(Readiness::Nothing) } else { Err(error) };
        }
        // A driver that is gone raises everything at once.
        Ok(if poll.revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0 {
            Readiness::Failed
        } else if poll.revents & libc::POLLPRI != 0 && self.device.takes_event() {
            Readiness::SourceChanged
        } else if poll.revents & libc::POLLIN != 0 {
            Readiness::Filled
        } else {
            Readiness::Nothing
        })
    }

    /// Takes the next filled buffer, if there is one.
    pub(super) fn take(&self) -> io::Result<Option<Filled>> {
        let mut buffer = sys::v4l2_buffer { type_: PICTURES, memory: MAPPED, ..zeroed() };
        match self.device.ask(&DEQUEUE_BUFFER, &mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            answered => answered?,
        }
        let index = buffer.index as usize;
        let Some(mapping) = self.buffers.get(index) else {
            return Err(io::Error::other(format!("the driver gives a buffer {index} that it doesn't have")));
        };
        let (seconds, microseconds) = (buffer.timestamp.tv_sec, buffer.timestamp.tv_usec);
        Ok(Some(Filled {
            index,
            used: mapping.length.min(buffer.bytesused as usize),
            flags: buffer.flags,
            sequence: buffer.sequence,
            timestamp: Duration::from_secs(seconds.try_into().unwrap_or_default())
                + Duration::from_micros(microseconds.try_into().unwrap_or_default()),
        }))
    }

    /// What the driver has put into a buffer.
    pub(super) fn bytes<'a>(&'a self, filled: &'a Filled) -> &'a [u8] {
        let address = self.buffers[filled.index].address.as_ptr();
        // SAFETY: the mapping has `used` bytes and more and lives as long as this stream; and the driver, which has
        // given the buffer away, doesn't write to it until `give_back` takes the `Filled` that is borrowed here.
        unsafe { std::slice::from_raw_parts(address, filled.used) }
    }

    /// Lets the driver fill a buffer again.
    pub(super) fn give_back(&self, filled: Filled) -> io::Result<()> {
        self.give(filled.index)
    }

    fn give(&self, index: usize) -> io::Result<()> {
        let index = index as u32;
        self.device
            .ask(&QUEUE_BUFFER, &mut sys::v4l2_buffer { index, type_: PICTURES, memory: MAPPED, ..zeroed() })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // None of it can fail in a way that matters: the file is closed next, and the kernel frees what is left.
        let _ = self.device.ask(&STREAM_OFF, &mut PICTURES.clone());
        self.buffers.clear();
        let mut none = sys::v4l2_requestbuffers { count: 0, type_: PICTURES, memory: MAPPED, ..zeroed() };
        let _ = self.device.ask(&REQUEST_BUFFERS, &mut none);
    }
}

/// One of the driver's buffers in this program's memory.
#[derive(Debug)]
struct Mapping {
    address: NonNull<u8>,
    length: usize,
}

// SAFETY: memory belongs to no thread in particular.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(file: &File, length: usize, offset: u32) -> io::Result<Self> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping wherever the kernel likes changes nothing that is there.
        let address = unsafe {
            v4l2::mmap(
                ptr::null_mut(),
                length,
                protection,
                flags,
                file.as_raw_fd(),
                libc::off_t::from(offset),
            )?
        };
        let address = NonNull::new(address.cast());
        Ok(Self {
            address: address.ok_or_else(|| io::Error::other("a buffer is mapped to nowhere"))?,
            length,
        })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: what was mapped in `new`, which nobody borrows any more.
        let _ = unsafe { v4l2::munmap(self.address.as_ptr().cast(), self.length) };
    }
}

/// The time by the clock that drivers take their timestamps from.
pub(super) fn monotonic_now() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a structure for the kernel to fill in; this clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    Duration::new(now.tv_sec.try_into().unwrap_or_default(), now.tv_nsec.try_into().unwrap_or_default())
}

/// Text that ends at its first zero; what is no UTF-8 in it is replaced.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
}

fn picture_format(answer: &sys::v4l2_format) -> PictureFormat {
    // SAFETY: numbers only, of which every combination of bits is one.
    let (pix, ycbcr_encoding) = unsafe { (answer.fmt.pix, answer.fmt.pix.__bindgen_anon_1.ycbcr_enc) };
    PictureFormat {
        fourcc: pix.pixelformat.to_le_bytes(),
        width: pix.width,
        height: pix.height,
        stride: pix.bytesperline,
        colorspace: pix.colorspace,
        ycbcr_encoding,
        quantization: pix.quantization,
    }
}

fn interval_of(answer: &sys::v4l2_streamparm) -> Option<(u32, u32)> {
    // SAFETY: numbers only.
    let interval = unsafe { answer.parm.capture.timeperframe };
    (interval.numerator > 0 && interval.denominator > 0).then_some((interval.numerator, interval.denominator))
}

fn size_of_answer(answer: &sys::v4l2_frmsizeenum) -> Option<Size> {
    if answer.type_ == sys::v4l2_frmsizetypes_V4L2_FRMSIZE_TYPE_DISCRETE {
        // SAFETY: numbers only.
        let size = unsafe { answer.__bindgen_anon_1.discrete };
        return Some(Size::Exact(size.width, size.height));
    }
    // SAFETY: numbers only.
    let sizes = unsafe { answer.__bindgen_anon_1.stepwise };
    // A range is the only entry of its list; some drivers give it again and again.
    (answer.index == 0).then_some(Size::Range {
        min: (sizes.min_width, sizes.min_height),
        max: (sizes.max_width, sizes.max_height),
        step: (sizes.step_width.max(1), sizes.step_height.max(1)),
    })
}

fn rate_of_answer(answer: &sys::v4l2_frmivalenum) -> Option<Rate> {
    if answer.type_ == sys::v4l2_frmivaltypes_V4L2_FRMIVAL_TYPE_DISCRETE {
        // SAFETY: numbers only.
        let interval = unsafe { answer.__bindgen_anon_1.discrete };
        return Rate::exact(interval.numerator, interval.denominator);
    }
    // SAFETY: numbers only.
    let intervals = unsafe { answer.__bindgen_anon_1.stepwise };
    let of =
        |interval: sys::v4l2_fract| f64::from(interval.denominator) / f64::from(interval.numerator.max(1));
    (answer.index == 0).then_some(Rate::Range(of(intervals.max), of(intervals.min)))
}
