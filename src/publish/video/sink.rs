//! The output that records videos: begins one with the first picture, and rotates files.
//!
//! Each video is whole: a file that is full, old or of pictures of another size is ended before the next is begun, and
//! the last when the program ends.
//!
//! What has a time in its name is never written over, and a service always writes such files where there is one
//! already: a restart must not cost yesterday's recording.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use wordsight_capture::Backoff;

use super::recording::{Encoder, Recording, encoder_for};
use super::settings::{Files, Target, VideoSettings};
use crate::job::Event;
use crate::publish::error::PublishError;
use crate::publish::message::{Message, Picture, Record};
use crate::publish::sink::{Chooser, Inbox, Interests, Sink, SinkContext};
use crate::threads::clock::rfc_3339;

/// How often it is looked whether the pipeline still works while no picture comes.
const LOOKED_AFTER: Duration = Duration::from_millis(500);
/// How long a pipeline may take no frame before it is given up.
const LONGEST_STALL: Duration = Duration::from_secs(10);
/// How long it may take to end a video: of a camera's stream, which has a second to stop, and of a recording's.
const LONGEST_FAREWELL: [Duration; 2] = [Duration::from_millis(1200), Duration::from_secs(60)];
/// From one attempt to the next where nothing works, at first and at most.
const RETRIES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// For how long a video must be made before it works again.
const PROVEN_AFTER: Duration = Duration::from_secs(2);
/// A file that failed with so little in it has nothing to be seen, bytes.
const NOTHING_IN_IT: u64 = 4096;

/// Makes the output.
pub(super) fn open(settings: &VideoSettings, context: &SinkContext) -> anyhow::Result<Box<dyn Sink>> {
    let place = settings.place();
    let encoder =
        encoder_for(&settings.to).map_err(|reason| anyhow::anyhow!("no video to {place}: {reason}"))?;
    if let Some(folder) = settings.folder() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {} for a video", folder.display()))?;
    }
    Ok(Box::new(VideoSink { settings: settings.clone(), encoder, keeps_what_is_there: context.appends }))
}

struct VideoSink {
    settings: VideoSettings,
    encoder: Option<Encoder>,
    keeps_what_is_there: bool,
}

/// As many frames as the video has room for; of a stream that can wait all.
struct FrameRate {
    period_ns: u64,
    last_ns: Option<u64>,
    takes_all: bool,
}

impl Chooser for FrameRate {
    fn begin(&mut self, can_wait: bool) {
        self.takes_all = can_wait;
    }

    fn wants(&mut self, record: &Record, _: &[Arc<Event>]) -> bool {
        let now = record.timestamp_ns;
        // A tenth early is on time: a camera's frames are not punctual.
        let period = self.period_ns / 10 * 9;
        let is_early = self.last_ns.is_some_and(|last| now >= last && now - last < period);
        if is_early && !self.takes_all {
            return false;
        }
        self.last_ns = Some(now);
        true
    }
}

impl Sink for VideoSink {
    fn name(&self) -> String {
        self.settings.place()
    }

    fn interests(&mut self) -> Interests {
        let period_ns = (1e9 / self.settings.fps) as u64;
        let chooser = FrameRate { period_ns, last_ns: None, takes_all: false };
        Interests { pictures: Some(Box::new(chooser)), ..Interests::default() }
    }

    fn wants_pixels(&self) -> bool {
        true
    }

    fn queue_size(&self) -> usize {
        8
    }

    fn is_waited_for(&self) -> bool {
        matches!(self.settings.to, Target::File(_))
    }

    fn run(self: Box<Self>, inbox: &Inbox) -> Result<(), PublishError> {
        let name = self.name();
        let mut videos = Videos {
            settings: self.settings,
            encoder: self.encoder,
            keeps_what_is_there: self.keeps_what_is_there,
            now: None,
            begun: 0,
            retry: Backoff::new(RETRIES[0], RETRIES[1]),
            not_before: None,
            was_in_trouble: false,
        };
        loop {
            let outcome = match inbox.next_within(LOOKED_AFTER) {
                Some(Message::Picture(picture)) => videos.add(&picture, inbox),
                Some(_) => continue,
                None if inbox.is_closing() => {
                    let outcome = videos.finish(inbox);
                    return videos.settled(outcome, &name, inbox);
                }
                None => videos.look(),
            };
            videos.settled(outcome, &name, inbox)?;
        }
    }
}

/// One video after the other.
struct Videos {
    settings: VideoSettings,
    encoder: Option<Encoder>,
    keeps_what_is_there: bool,
    now: Option<(Recording, Option<PathBuf>)>,
    /// How many were begun.
    begun: u64,
    /// From an attempt that failed to the next.
    retry: Backoff,
    not_before: Option<Instant>,
    was_in_trouble: bool,
}

impl Videos {
    /// Puts a picture into the video at hand, or the next.
    fn add(&mut self, picture: &Picture, inbox: &Inbox) -> Result<(), String> {
        let Some(pixels) = &picture.pixels else { return Ok(()) };
        if self.not_before.is_some_and(|moment| Instant::now() < moment) {
            inbox.lost(1);
            return Ok(());
        }
        let size = picture.record.size;
        if self.now.as_ref().is_some_and(|(recording, path)| {
            recording.size() != size || self.is_full(recording, path.as_deref())
        }) {
            self.finish(inbox)?;
        }
        let recording = match self.now.take() {
            Some(now) => self.now.insert(now),
            None => {
                let path = self.next_path();
                self.begun += 1;
                let recording = Recording::begin(&self.settings, self.encoder, size, path.as_deref());
                self.now.insert((recording?, path))
            }
        };
        // A picture whose pixels are fewer than its size says would be read beyond its end.
        if pixels.len() < 3 * size.0 * size.1 {
            return Err(format!("a picture has {} bytes for {}x{} pixels", pixels.len(), size.0, size.1));
        }
        let is_camera = inbox.outlives_failures();
        let recording = &mut recording.0;
        if !wait_for_room(recording, inbox)? {
            inbox.lost(1);
            return Ok(());
        }
        recording.push(pixels, is_camera.then_some(picture.record.timestamp_ns))?;
        inbox.sent(1);
        if self.was_in_trouble && recording.age() > PROVEN_AFTER {
            self.is_proven(inbox);
        }
        Ok(())
    }

    /// What the pipeline says while no picture comes.
    fn look(&mut self) -> Result<(), String> {
        self.now.as_ref().and_then(|(recording, _)| recording.failure()).map_or(Ok(()), Err)
    }

    /// Ends the video at hand.
    fn finish(&mut self, inbox: &Inbox) -> Result<(), String> {
        let Some((recording, _)) = self.now.take() else { return Ok(()) };
        let is_recording = usize::from(!inbox.outlives_failures());
        recording.finish(LONGEST_FAREWELL[is_recording])?;
        if self.was_in_trouble {
            self.is_proven(inbox);
        }
        Ok(())
    }

    fn is_proven(&mut self, inbox: &Inbox) {
        self.was_in_trouble = false;
        self.retry.reset();
        inbox.recovered();
    }

    /// A failure ends a stream that waits for its video; another goes on, and it is tried again after a while.
    fn settled(
        &mut self,
        outcome: Result<(), String>,
        name: &str,
        inbox: &Inbox,
    ) -> Result<(), PublishError> {
        let Err(reason) = outcome else { return Ok(()) };
        let reason = wordsight_capture::without_password(&reason);
        if let Some((recording, path)) = self.now.take() {
            drop(recording);
            let is_empty = |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.len() < NOTHING_IN_IT);
            if let Some(path) = path.filter(is_empty) {
                drop(fs::remove_file(path));
            }
        }
        if !inbox.outlives_failures() {
            return Err(PublishError::Failed { name: name.to_owned(), reason });
        }
        inbox.lost(1);
        inbox.failed(&reason);
        self.was_in_trouble = true;
        self.not_before = Some(Instant::now() + self.retry.wait());
        Ok(())
    }

    fn is_full(&self, recording: &Recording, path: Option<&Path>) -> bool {
        let (Target::File(files), Some(path)) = (&self.settings.to, path) else { return false };
        let is_old = !files.rotate_after.is_zero() && recording.age() >= files.rotate_after;
        let is_large = || {
            files.rotate_bytes > 0 && fs::metadata(path).is_ok_and(|file| file.len() >= files.rotate_bytes)
        };
        is_old || is_large()
    }

    /// Where the next video goes: the file that was asked for, or where there are several, one with its time in its name.
    fn next_path(&self) -> Option<PathBuf> {
        let Target::File(files) = &self.settings.to else { return None };
        let rotates = files.rotate_bytes > 0 || !files.rotate_after.is_zero();
        let is_kept = self.keeps_what_is_there && files.path.exists();
        if !rotates && self.begun == 0 && !is_kept {
            return Some(files.path.clone());
        }
        if let Err(reason) = files.remove_old() {
            tracing::warn!("{reason}");
        }
        Some(files.path_at(SystemTime::now()))
    }
}

/// Waits until the encoder takes another frame; `false`: the program ends before.
fn wait_for_room(recording: &Recording, inbox: &Inbox) -> Result<bool, String> {
    let start = Instant::now();
    loop {
        if let Some(reason) = recording.failure() {
            return Err(reason);
        }
        if recording.has_room() {
            return Ok(true);
        }
        // Of a camera what can't be encoded in time is lost, at the end too.
        if inbox.is_closing() && inbox.outlives_failures() {
            return Ok(false);
        }
        if start.elapsed() > LONGEST_STALL {
            return Err(format!("its pipeline took no frame for {} s", LONGEST_STALL.as_secs()));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

impl Files {
    /// `out.mkv` as `out-2026-11-27T14-03-22.mkv`, in UTC, and with a number behind it where that is taken.
    fn path_at(&self, time: SystemTime) -> PathBuf {
        let time = rfc_3339(time).trim_end_matches('Z').replace(':', "-");
        let (stem, ending) = self.parts();
        let name = |copy: u32| match copy {
            1 => format!("{stem}-{time}.{ending}"),
            _ => format!("{stem}-{time}-{copy}.{ending}"),
        };
        let paths = (1..).map(|copy| self.path.with_file_name(name(copy)));
        paths.into_iter().find(|path| !path.exists()).unwrap_or_else(|| self.path.clone())
    }

    fn parts(&self) -> (&str, &str) {
        let part = |part: Option<&'_ std::ffi::OsStr>| part.and_then(|part| part.to_str()).map(str::len);
        let (stem, ending) = (part(self.path.file_stem()), part(self.path.extension()));
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or("video.mkv");
        let stem = name.get(..stem.unwrap_or(0)).unwrap_or("video");
        let ending = name.get(name.len() - ending.unwrap_or(0)..).unwrap_or("mkv");
        (stem, ending)
    }

    /// Removes the oldest of the files with a time in their name, so that with the next there are as many as are kept.
    fn remove_old(&self) -> Result<(), String> {
        if self.keep == 0 {
            return Ok(());
        }
        let folder =
            self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let entries = fs::read_dir(folder)
            .map_err(|error| format!("cannot look through {} for old videos: {error}", folder.display()))?;
        let mut ours: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(|path| self.is_ours(path)).collect();
        ours.sort();
        let surplus = (ours.len() + 1).saturating_sub(self.keep);
        for path in &ours[..surplus.min(ours.len())] {
            fs::remove_file(path)
                .map_err(|error| format!("cannot remove {}, which is old: {error}", path.display()))?;
        }
        Ok(())
    }

    /// Whether a file's name is one that [`Self::path_at`] gives.
    fn is_ours(&self, path: &Path) -> bool {
        const TIME: &str = "0000-00-00T00-00-00";
        let (stem, ending) = self.parts();
        let middle = path.file_name().and_then(|name| name.to_str()).and_then(|name| {
            name.strip_prefix(stem)?.strip_prefix('-')?.strip_suffix(ending)?.strip_suffix('.')
        });
        let Some((time, copy)) = middle.and_then(|middle| middle.split_at_checked(TIME.len())) else {
            return false;
        };
        let is_digit = |byte: u8| byte.is_ascii_digit();
        let is_time = time
            .bytes()
            .zip(TIME.bytes())
            .all(|(byte, like)| if like == b'0' { is_digit(byte) } else { byte == like });
        let is_copy = |copy: &str| !copy.is_empty() && copy.bytes().all(is_digit);
        is_time && (copy.is_empty() || copy.strip_prefix('-').is_some_and(is_copy))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::publish::video::settings::Container;

    #[test]
    fn files_that_follow_one_another_have_their_time_in_their_name_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files {
            path: folder.path().join("yard.mkv"),
            container: Container::Matroska,
            rotate_bytes: 1,
            rotate_after: Duration::ZERO,
            keep: 2,
        };
        let others =
            ["yard.mkv", "yard-2026.mkv", "yard-2026-11-27T14-03-22.mp4", "y-2026-11-27T14-03-22.mkv"];
        for name in others {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut made = Vec::new();
        for seconds in [1_795_788_202, 1_795_788_202, 1_795_788_300, 1_795_788_400] {
            files.remove_old().unwrap();
            let path = files.path_at(at(seconds));
            fs::write(&path, "").unwrap();
            made.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
        assert_eq!(made[..2], ["yard-2026-11-27T14-03-22.mkv", "yard-2026-11-27T14-03-22-2.mkv"]);
        let left = |name: &str| folder.path().join(name).exists();
        assert_eq!(made.iter().map(|name| left(name)).collect::<Vec<_>>(), [false, false, true, true]);
        assert!(others.iter().all(|name| left(name)));
    }

    #[test]
    fn a_video_has_no_more_frames_a_second_than_said_and_of_a_recording_all() {
        let mut rate = FrameRate { period_ns: 100_000_000, last_ns: None, takes_all: false };
        let taken = |rate: &mut FrameRate| {
            (0..30)
                .filter(|frame| {
                    let record = Record { timestamp_ns: frame * 33_000_000, ..Record::default() };
                    rate.wants(&record, &[])
                })
                .count()
        };
        assert_eq!(taken(&mut rate), 10);
        rate.begin(true);
        assert_eq!(taken(&mut rate), 30);
    }
}
