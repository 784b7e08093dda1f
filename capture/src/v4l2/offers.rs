//! Chooses format, size and rate among those that a camera offers.
//!
//! Takes the formats, sizes and rates that a camera lists, the size that it has set now and what the user asks for, and
//! gives a [`Choice`], or a sentence that says what there is instead.
//!
//! The cheapest format is not always the one to take. A camera on USB 2 has no room for uncompressed pictures of
//! 1280x720 at 30 frames a second and lists them at 10; the rate decides before the format.

use std::fmt;

use wordsight_detection::PixelFormat;

use crate::uri::CameraRequest;

/// Where no rate is asked for, a format that gives this many frames a second goes before one that doesn't.
const FAST_ENOUGH: f64 = 24.0;
/// How far a rate may be from the one that was asked for: 30 is 29.97 too.
const RATE_TOLERANCE: f64 = 0.005;
/// The most entries of a list that an error shows.
const MOST_SHOWN: usize = 16;

/// How the bytes of a format lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// Pixels.
    Raw(PixelFormat),
    /// A JPEG each.
    Jpeg,
}

/// A format that frames can be made of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) fourcc: [u8; 4],
    /// What a user may call it; the first is what we call it.
    names: &'static [&'static str],
    pub(super) coding: Coding,
}

/// The formats that frames can be made of, cheapest first. Grey is the last resort: words are found by their colours
/// too.
pub(super) const KNOWN: [Known; 8] = [
    Known { fourcc: *b"YUYV", names: &["yuyv", "yuy2"], coding: Coding::Raw(PixelFormat::Yuyv) },
    Known { fourcc: *b"NV12", names: &["nv12"], coding: Coding::Raw(PixelFormat::Nv12) },
    Known { fourcc: *b"UYVY", names: &["uyvy"], coding: Coding::Raw(PixelFormat::Uyvy) },
    Known { fourcc: *b"YU12", names: &["i420", "yu12"], coding: Coding::Raw(PixelFormat::I420) },
    Known { fourcc: *b"RGB3", names: &["rgb", "rgb3"], coding: Coding::Raw(PixelFormat::Rgb) },
    Known { fourcc: *b"MJPG", names: &["mjpg", "mjpeg", "jpeg"], coding: Coding::Jpeg },
    Known { fourcc: *b"JPEG", names: &["jpeg", "mjpg", "mjpeg"], coding: Coding::Jpeg },
    Known { fourcc: *b"GREY", names: &["grey", "gray"], coding: Coding::Raw(PixelFormat::Grey) },
];

impl Known {
    /// The format of a four-character code, and its place among the others.
    fn of(fourcc: [u8; 4]) -> Option<(usize, &'static Self)> {
        KNOWN.iter().enumerate().find(|(_, known)| known.fourcc == fourcc)
    }

    /// What we call it.
    pub(super) fn name(&self) -> &'static str {
        self.names[0]
    }
}

/// Pictures of a bare sensor, one colour a pixel (Linux' videodev2.h): a CSI camera's, as long as nothing has been made of
/// them. 8, 10, 12, 14 and 16 bits, packed or not, and compressed.
const BAYER: [&[u8; 4]; 36] = [
    b"BA81", b"GBRG", b"GRBG", b"RGGB", b"BG10", b"GB10", b"BA10", b"RG10", b"pBAA", b"pGAA", b"pgAA",
    b"pRAA", b"aBA8", b"aGA8", b"agA8", b"aRA8", b"bBA8", b"bGA8", b"BD10", b"bRA8", b"BG12", b"GB12",
    b"BA12", b"RG12", b"pBCC", b"pGCC", b"pgCC", b"pRCC", b"BG14", b"GB14", b"GR14", b"RG14", b"BYR2",
    b"GB16", b"GR16", b"RG16",
];

/// What a format is called: by us, or else by its four characters.
pub fn name_of(fourcc: [u8; 4]) -> String {
    match Known::of(fourcc) {
        Some((_, known)) => known.name().to_owned(),
        // The highest bit says big-endian.
        None => fourcc.map(|byte| char::from(byte & 0x7f)).iter().collect::<String>().trim().to_owned(),
    }
}

/// A format that a camera offers.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// Its four characters.
    pub fourcc: [u8; 4],
    /// The sizes; none where the driver doesn't list them.
    pub sizes: Vec<SizeOffer>,
}

/// A size, or a range of them, of a format.
#[derive(Debug, Clone, PartialEq)]
pub struct SizeOffer {
    /// The size.
    pub size: Size,
    /// Its rates; none where the driver doesn't list them.
    pub rates: Vec<Rate>,
}

/// Pixels: width, then height.
#[derive(Debug, Clone, PartialEq)]
pub enum Size {
    /// This one.
    Exact(u32, u32),
    /// From the least to the greatest in steps.
    Range {
        /// The least.
        min: (u32, u32),
        /// The greatest.
        max: (u32, u32),
        /// From one size to the next.
        step: (u32, u32),
    },
}

impl Size {
    pub(super) fn holds(&self, (width, height): (u32, u32)) -> bool {
        match self {
            Self::Exact(w, h) => (*w, *h) == (width, height),
            Self::Range { min, max, step } => {
                let holds = |side: u32, min: u32, max: u32, step: u32| {
                    (min..=max).contains(&side) && (side - min).is_multiple_of(step.max(1))
                };
                holds(width, min.0, max.0, step.0) && holds(height, min.1, max.1, step.1)
            }
        }
    }

    /// The size of this offer that is nearest to another.
    fn nearest(&self, (width, height): (u32, u32)) -> (u32, u32) {
        match self {
            Self::Exact(w, h) => (*w, *h),
            Self::Range { min, max, step } => {
                let near = |side: u32, min: u32, max: u32, step: u32| {
                    let side = side.clamp(min, max.max(min));
                    side - (side - min) % step.max(1)
                };
                (near(width, min.0, max.0, step.0), near(height, min.1, max.1, step.1))
            }
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(width, height) => write!(f, "{width}x{height}"),
            Self::Range { min, max, .. } => write!(f, "{}x{} to {}x{}", min.0, min.1, max.0, max.1),
        }
    }
}

/// Frames a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// One every so many seconds, as the driver has it: a fraction.
    Exact {
        /// Seconds,
        numerator: u32,
        /// for so many frames.
        denominator: u32,
    },
    /// From the least to the greatest.
    Range(f64, f64),
}

impl Rate {
    /// A frame every `numerator / denominator` seconds.
    pub(super) fn exact(numerator: u32, denominator: u32) -> Option<Self> {
        (numerator > 0 && denominator > 0).then_some(Self::Exact { numerator, denominator })
    }

    /// The greatest of it.
    pub fn best(self) -> f64 {
        match self {
            Self::Exact { numerator, denominator } => f64::from(denominator) / f64::from(numerator),
            Self::Range(_, best) => best,
        }
    }

    fn gives(self, fps: f64) -> bool {
        match self {
            Self::Exact { .. } => is_near(self.best(), fps),
            Self::Range(least, best) => {
                (least..=best).contains(&fps) || is_near(least, fps) || is_near(best, fps)
            }
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exact { .. } => write!(f, "{}", short(self.best())),
            Self::Range(least, best) => write!(f, "{} to {}", short(least), short(best)),
        }
    }
}

/// A rate with as many digits as tell it from another.
fn short(fps: f64) -> f64 {
    (fps * 100.0).round() / 100.0
}

pub(super) fn is_near(fps: f64, wanted: f64) -> bool {
    (fps - wanted).abs() <= RATE_TOLERANCE * wanted
}

/// What to ask the driver for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Choice {
    pub(super) format: &'static Known,
    pub(super) size: (u32, u32),
    /// Seconds from one frame to the next, as a fraction; without it the driver's own.
    pub(super) interval: Option<(u32, u32)>,
}

/// A format at a size, with what speaks for and against it.
struct Candidate<'a> {
    place: usize,
    format: &'static Known,
    size: (u32, u32),
    rates: &'a [Rate],
}

impl Candidate<'_> {
    fn best_rate(&self) -> Option<f64> {
        self.rates.iter().map(|rate| rate.best()).reduce(f64::max)
    }

    /// A camera that lists no rates may have any.
    fn may_give(&self, fps: f64) -> bool {
        self.rates.is_empty() || self.rates.iter().any(|rate| rate.gives(fps))
    }
}

/// Chooses among `offers`; `size_now` is what stays where no size is asked for.
///
/// # Errors
/// When what is asked for isn't there: what there is.
pub(super) fn choose(
    offers: &[Offer],
    size_now: (u32, u32),
    request: &CameraRequest,
) -> Result<Choice, String> {
    let named = named(offers, request.format.as_deref())?;
    let asked = request.width.zip(request.height);
    let candidates: Vec<Candidate> = named
        .iter()
        .filter_map(|(place, format, offer)| candidate(*place, format, offer, asked, size_now))
        .collect();
    if candidates.is_empty() {
        let (width, height) = asked.unwrap_or(size_now);
        let sizes =
            list(named.iter().flat_map(|(_, _, offer)| &offer.sizes).map(|offer| offer.size.to_string()));
        return Err(format!("width={width}&height={height}: the camera has {sizes}"));
    }
    // The best that any of them gives is enough where none gives what is enough.
    let best = candidates.iter().filter_map(Candidate::best_rate).fold(0.0, f64::max);
    let enough = best.min(FAST_ENOUGH);
    let is_slow = |candidate: &Candidate| match request.fps {
        Some(fps) => !candidate.may_give(fps),
        None => candidate.best_rate().is_some_and(|best| best < enough),
    };
    let Some(chosen) = candidates.iter().min_by_key(|candidate| (is_slow(candidate), candidate.place)) else {
        return Err("the camera has no format".to_owned());
    };
    let interval = match request.fps {
        None => None,
        Some(fps) if chosen.may_give(fps) => Some(interval_for(fps, chosen.rates)),
        Some(fps) => {
            let (width, height) = chosen.size;
            let rates = list(candidates.iter().flat_map(|candidate| candidate.rates).map(Rate::to_string));
            return Err(format!("fps={fps}: at {width}x{height} the camera gives {rates} frames a second"));
        }
    };
    Ok(Choice { format: chosen.format, size: chosen.size, interval })
}

/// An offer in a format that can be read, and the format's place among those.
type Readable<'a> = (usize, &'static Known, &'a Offer);

/// The offers that can be read; of these the ones in the format called `name`, where one is asked for.
fn named<'a>(offers: &'a [Offer], name: Option<&str>) -> Result<Vec<Readable<'a>>, String> {
    let mut readable: Vec<Readable<'a>> = offers
        .iter()
        .filter_map(|offer| Known::of(offer.fourcc).map(|(place, known)| (place, known, offer)))
        .collect();
    let has = || list(offers.iter().map(|offer| name_of(offer.fourcc)));
    if readable.is_empty() {
        let names = has();
        if offers.iter().any(|offer| BAYER.contains(&&offer.fourcc)) {
            return Err(format!(
                "it is a bare sensor on a CSI connector, which gives {names}: on a Jetson write `csi://0` instead, or \
                 `csi://1` for the second, which goes through NVIDIA's image processor"
            ));
        }
        return Err(format!("the camera gives {names}, and wordsight reads {}", known_names()));
    }
    let Some(name) = name else { return Ok(readable) };
    readable.retain(|(_, known, _)| known.names.contains(&name));
    if readable.is_empty() {
        let known = KNOWN.iter().any(|known| known.names.contains(&name));
        let reads = if known { String::new() } else { format!(", and wordsight reads {}", known_names()) };
        return Err(format!("format={name}: the camera has {}{reads}", has()));
    }
    Ok(readable)
}

/// A format at the size that was asked for or else the one nearest to the present.
fn candidate<'a>(
    place: usize,
    format: &'static Known,
    offer: &'a Offer,
    asked: Option<(u32, u32)>,
    size_now: (u32, u32),
) -> Option<Candidate<'a>> {
    let size = asked.unwrap_or(size_now);
    if offer.sizes.is_empty() {
        return Some(Candidate { place, format, size, rates: &[] });
    }
    if let Some(found) = offer.sizes.iter().find(|offer| offer.size.holds(size)) {
        return Some(Candidate { place, format, size, rates: &found.rates });
    }
    if asked.is_some() {
        return None;
    }
    let area = |(width, height): (u32, u32)| i64::from(width) * i64::from(height);
    let nearest =
        offer.sizes.iter().min_by_key(|offer| (area(offer.size.nearest(size)) - area(size)).abs())?;
    Some(Candidate { place, format, size: nearest.size.nearest(size), rates: &nearest.rates })
}

/// The fraction by which to ask for a rate: the camera's own where it lists it.
fn interval_for(fps: f64, rates: &[Rate]) -> (u32, u32) {
    let listed = rates.iter().find_map(|rate| match rate {
        Rate::Exact { numerator, denominator } if rate.gives(fps) => Some((*numerator, *denominator)),
        _ => None,
    });
    listed.unwrap_or((1000, (1000.0 * fps).round() as u32))
}

fn known_names() -> String {
    // JPEG is there twice, as two four-character codes.
    list(KNOWN.iter().filter(|known| known.fourcc != *b"JPEG").map(|known| known.name().to_owned()))
}

/// Entries, each once, and not too many.
pub(super) fn list(entries: impl Iterator<Item = String>) -> String {
    let mut once: Vec<String> = Vec::new();
    for entry in entries {
        if !once.contains(&entry) {
            once.push(entry);
        }
    }
    let more = once.len().saturating_sub(MOST_SHOWN);
    once.truncate(MOST_SHOWN);
    match (once.is_empty(), more) {
        (true, _) => "nothing".to_owned(),
        (false, 0) => once.join(", "),
        (false, more) => format!("{} and {more} more", once.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn offer(fourcc: &[u8; 4], sizes: &[(u32, u32, &[u32])]) -> Offer {
        let rates = |rates: &[u32]| rates.iter().filter_map(|&fps| Rate::exact(1, fps)).collect();
        let sizes = sizes
            .iter()
            .map(|&(width, height, fps)| SizeOffer { size: Size::Exact(width, height), rates: rates(fps) });
        Offer { fourcc: *fourcc, sizes: sizes.collect() }
    }

    /// A webcam on USB 2, as most are.
    fn webcam() -> Vec<Offer> {
        vec![
            offer(b"MJPG", &[(640, 480, &[30]), (1280, 720, &[30, 15]), (1920, 1080, &[30])]),
            offer(b"YUYV", &[(640, 480, &[30, 15]), (1280, 720, &[10, 5])]),
        ]
    }

    const NOW: (u32, u32) = (640, 480);

    fn request(size: Option<(u32, u32)>, fps: Option<f64>, format: Option<&str>) -> CameraRequest {
        let (width, height) = size.unzip();
        CameraRequest { width, height, fps, format: format.map(str::to_owned), ..CameraRequest::default() }
    }

    type Chosen = (&'static str, (u32, u32), Option<(u32, u32)>);

    fn chosen(
        offers: &[Offer],
        size: Option<(u32, u32)>,
        fps: Option<f64>,
        format: Option<&str>,
    ) -> Result<Chosen, String> {
        choose(offers, NOW, &request(size, fps, format)).map(|c| (c.format.name(), c.size, c.interval))
    }

    #[test]
    fn who_asks_for_nothing_gets_the_present_size_in_the_cheapest_format() {
        assert_eq!(chosen(&webcam(), None, None, None).unwrap(), ("yuyv", NOW, None));
    }

    #[test]
    fn compressed_pictures_are_taken_where_only_they_are_fast_enough() {
        let large = Some((1280, 720));
        assert_eq!(chosen(&webcam(), large, Some(30.0), None).unwrap().0, "mjpg");
        assert_eq!(chosen(&webcam(), large, Some(10.0), None).unwrap().0, "yuyv");
        assert_eq!(chosen(&webcam(), large, None, None).unwrap().0, "mjpg", "10 frames a second are few");
        assert_eq!(chosen(&webcam(), Some((1920, 1080)), None, None).unwrap().0, "mjpg");
        assert_eq!(chosen(&webcam(), large, None, Some("yuyv")).unwrap().0, "yuyv", "it was asked for");
    }

    #[test]
    fn a_bare_sensor_is_told_apart_from_a_camera_whose_format_is_unknown() {
        for fourcc in [b"RG10", b"BG10", b"RG12", b"BA81", b"pRAA"] {
            let refused = chosen(&[offer(fourcc, &[(3280, 2464, &[21])])], None, None, None).unwrap_err();
            assert!(refused.contains("`csi://0`") && refused.contains(&name_of(*fourcc)), "{refused}");
        }
        let unknown = chosen(&[offer(b"H264", &[(640, 480, &[30])])], None, None, None).unwrap_err();
        assert!(!unknown.contains("csi://") && unknown.contains("wordsight reads"), "{unknown}");
        // An image processor's node offers both.
        let both = [offer(b"RG10", &[(640, 480, &[30])]), offer(b"NV12", &[(640, 480, &[30])])];
        assert_eq!(chosen(&both, None, None, None).unwrap().0, "nv12");
    }

    #[test]
    fn where_all_are_slow_the_cheapest_is_taken() {
        let slow = [offer(b"MJPG", &[(640, 480, &[10])]), offer(b"UYVY", &[(640, 480, &[10])])];
        assert_eq!(chosen(&slow, None, None, None).unwrap().0, "uyvy");
    }

    #[test]
    fn colours_go_before_grey() {
        let both = [offer(b"GREY", &[(640, 480, &[30])]), offer(b"MJPG", &[(640, 480, &[30])])];
        assert_eq!(chosen(&both, None, None, None).unwrap().0, "mjpg");
        assert_eq!(chosen(&both[..1], None, None, None).unwrap().0, "grey");
    }

    #[test]
    fn a_rate_is_asked_for_by_the_cameras_own_fraction() {
        let ntsc = Rate::exact(1001, 30_000).unwrap();
        let sizes = vec![SizeOffer { size: Size::Exact(640, 480), rates: vec![ntsc] }];
        let camera = [Offer { fourcc: *b"YUYV", sizes }];
        for fps in [30.0, 29.97] {
            assert_eq!(chosen(&camera, None, Some(fps), None).unwrap().2, Some((1001, 30_000)));
        }
        let silent = [offer(b"YUYV", &[(640, 480, &[])])];
        assert_eq!(chosen(&silent, None, Some(29.97), None).unwrap().2, Some((1000, 29_970)));
    }

    #[test]
    fn what_the_camera_does_not_have_is_answered_with_what_it_has() {
        let refused = |size, fps, format| chosen(&webcam(), size, fps, format).unwrap_err();
        assert_eq!(refused(None, None, Some("nv12")), "format=nv12: the camera has mjpg, yuyv");
        let unknown = refused(None, None, Some("vp9"));
        assert!(unknown.contains("the camera has mjpg, yuyv, and wordsight reads yuyv, nv12"), "{unknown}");
        assert_eq!(
            refused(Some((800, 600)), None, None),
            "width=800&height=600: the camera has 640x480, 1280x720, 1920x1080"
        );
        assert_eq!(
            refused(Some((1920, 1080)), None, Some("yuyv")),
            "width=1920&height=1080: the camera has 640x480, 1280x720"
        );
        assert_eq!(
            refused(None, Some(100.0), Some("yuyv")),
            "fps=100: at 640x480 the camera gives 30, 15 frames a second"
        );
        let raw = [offer(b"H264", &[(640, 480, &[30])])];
        assert!(
            chosen(&raw, None, None, None)
                .unwrap_err()
                .starts_with("the camera gives H264, and wordsight reads")
        );
    }

    #[test]
    fn ranges_hold_what_lies_on_their_steps() {
        let range = Size::Range { min: (16, 16), max: (1920, 1080), step: (8, 2) };
        assert!(range.holds((640, 480)) && range.holds((1920, 1080)) && !range.holds((642, 480)));
        assert!(!range.holds((8, 16)) && !range.holds((4000, 480)));
        assert_eq!(range.nearest((5000, 481)), (1920, 480));
        let sizes = vec![SizeOffer { size: range, rates: vec![Rate::Range(1.0, 60.0)] }];
        let camera = [Offer { fourcc: *b"NV12", sizes }];
        let found = chosen(&camera, Some((1024, 768)), Some(50.0), None).unwrap();
        assert_eq!(found, ("nv12", (1024, 768), Some((1000, 50_000))));
        let refused = chosen(&camera, None, Some(90.0), None).unwrap_err();
        assert!(refused.ends_with("the camera gives 1 to 60 frames a second"), "{refused}");
    }

    #[test]
    fn a_camera_that_lists_no_sizes_is_asked_for_what_the_user_wants() {
        let camera = [Offer { fourcc: *b"YUYV", sizes: vec![] }];
        assert_eq!(chosen(&camera, Some((123, 45)), None, None).unwrap().1, (123, 45));
        assert_eq!(chosen(&camera, None, None, None).unwrap().1, NOW);
    }

    #[test]
    fn formats_have_names() {
        assert_eq!(name_of(*b"YU12"), "i420");
        assert_eq!(name_of(*b"Y16 "), "Y16");
        assert_eq!(name_of([b'Y', b'1', b'6', b' ' | 0x80]), "Y16");
    }
}
