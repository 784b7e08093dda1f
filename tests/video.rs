//! Annotated video: recorded by the real program, played back by GStreamer.
//!
//! Needs what `scripts/setup cameras` installs; without it the tests say that they are skipped.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

#[cfg(not(feature = "gstreamer"))]
#[test]
fn without_gstreamer_a_video_is_a_sentence_that_says_how_to_build() {
    let bench = support::Bench::new();
    let config = bench.write_config("[[video]]\nto = \"out.mkv\"\n");
    let outcome = support::wordsight(&["run", "--config", config.to_str().unwrap()]).output().unwrap();
    let outcome = support::Outcome::of(outcome);
    assert!(outcome.sentence(2).contains("--features gstreamer"), "{outcome:?}");
}

#[cfg(feature = "gstreamer")]
mod with_gstreamer {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Stdio;
    use std::time::Instant;

    use gstreamer as gst;
    use gstreamer::prelude::*;
    use gstreamer_app::AppSink;

    use crate::support::*;

    /// Whether there is what records and plays; a test that can't be is skipped aloud.
    fn has_gstreamer(test: &str) -> bool {
        gst::init().unwrap();
        let needed = ["appsrc", "videoconvert", "matroskamux", "decodebin", "vp8enc", "vp8dec", "jpegenc"];
        let missing: Vec<_> =
            needed.iter().filter(|element| gst::ElementFactory::find(element).is_none()).collect();
        if missing.is_empty() {
            return true;
        }
        skip(test, &format!("GStreamer has no {missing:?}"), "`scripts/setup cameras`");
        false
    }

    /// A frame of a video as it is played: when it is shown, seconds, and its pixels.
    struct Shown {
        at_s: f64,
        width: usize,
        height: usize,
        rgb: Vec<u8>,
    }

    impl Shown {
        fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
            let start = y * self.rgb.len() / self.height + 3 * x;
            std::array::from_fn(|channel| self.rgb[start + channel])
        }
    }

    /// Plays a file to its end.
    fn play(path: &Path) -> Vec<Shown> {
        let launch = format!(
            "filesrc location=\"{}\" ! decodebin ! videoconvert ! video/x-raw,format=RGB ! appsink name=sink sync=false",
            path.display()
        );
        let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
        let sink = pipeline.by_name("sink").unwrap().downcast::<AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let mut shown = Vec::new();
        while let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_seconds(20)) {
            let caps = sample.caps().unwrap().structure(0).unwrap().to_owned();
            let size = |side: &str| usize::try_from(caps.get::<i32>(side).unwrap()).unwrap();
            let buffer = sample.buffer().unwrap();
            shown.push(Shown {
                at_s: buffer.pts().unwrap().nseconds() as f64 / 1e9,
                width: size("width"),
                height: size("height"),
                rgb: buffer.map_readable().unwrap().as_slice().to_vec(),
            });
        }
        let bus = pipeline.bus().unwrap();
        let failed = bus.pop_filtered(&[gst::MessageType::Error]);
        assert!(failed.is_none() && sink.is_eos(), "{}: {failed:?}", path.display());
        pipeline.set_state(gst::State::Null).unwrap();
        shown
    }

    fn distance(one: [u8; 3], other: [u8; 3]) -> u32 {
        one.iter().zip(other).map(|(a, b)| u32::from(a.abs_diff(b))).sum()
    }

    /// A configuration that films a grey picture with a red corner, and `more`.
    fn configure(bench: &Bench, more: &str) -> PathBuf {
        bench.write_config(&format!("[engine]\nthreads = 1\n{more}"))
    }

    fn run(configuration: &Path, more: &[&str]) -> Outcome {
        let config = ["run", "--config", configuration.to_str().unwrap()];
        Outcome::of(wordsight(&[&config, more].concat()).output().unwrap())
    }

    #[test]
    fn every_frame_of_a_recording_is_in_the_video_at_its_rate_with_boxes_where_they_belong() {
        if !has_gstreamer("every_frame_of_a_recording") {
            return;
        }
        let bench = Bench::new();
        let source = "[source]\nuri = \"test://0000ff?width=641&height=480\"\n";
        let config = configure(&bench, &format!("{source}[[video]]\nto = \"out.mkv\"\nfps = 20\n"));
        let saved = bench.path("saved");
        let lines = run(&config, &["--frames", "25", "--save", saved.to_str().unwrap()]).lines();
        let shown = play(&bench.path("out.mkv"));
        assert_eq!((lines.len(), shown.len()), (25, 25));
        for (frame, at) in shown.iter().zip((0..).map(|number| f64::from(number) / 20.0)) {
            assert!((frame.at_s - at).abs() < 0.003, "{} s is not {at} s", frame.at_s);
            assert_eq!((frame.width, frame.height), (640, 480), "an odd column is left out");
        }
        // The line of the best box, at the middle of its left side; all around is blue.
        let found = &lines[20]["detections"][0];
        let side = |place: usize| found["box_in_frame"][place].as_f64().unwrap().round() as usize;
        let (x, y) = (side(0) + 1, (side(1) + side(3)) / 2);
        let frame = &shown[20];
        let blue = [0, 0, 255];
        assert!(distance(frame.pixel(x, y), blue) > 120, "{:?} at {x}, {y}", frame.pixel(x, y));
        assert!(distance(frame.pixel(x + 40, y), blue) < 60, "{:?}", frame.pixel(x + 40, y));
        // And the same as in the picture that was saved of the frame.
        let picture = image_of(&saved.join("000020.jpg"));
        let seen = picture(x, y);
        assert!(
            distance(frame.pixel(x, y), seen) < 100,
            "{:?} is {seen:?} in the picture",
            frame.pixel(x, y)
        );
    }

    /// The pixels of a JPEG.
    fn image_of(path: &Path) -> impl Fn(usize, usize) -> [u8; 3] + use<> {
        let image = image::open(path).unwrap().to_rgb8();
        move |x, y| image.get_pixel(x as u32, y as u32).0
    }

    #[test]
    fn a_cameras_frames_are_as_far_apart_as_they_were_captured_and_no_more_than_asked_for() {
        if !has_gstreamer("a_cameras_frames") {
            return;
        }
        let bench = Bench::new();
        let source =
            "[source]\nuri = \"test://ff0000?width=320&height=240\"\npacing = \"camera\"\nfps = 40\n";
        let config = configure(&bench, &format!("{source}[[video]]\nto = \"out.mkv\"\nfps = 10\n"));
        let started = Instant::now();
        let outcome = run(&config, &["--frames", "80"]);
        let took_s = started.elapsed().as_secs_f64();
        let shown = play(&bench.path("out.mkv"));
        let (first, last) = (shown.first().unwrap().at_s, shown.last().unwrap().at_s);
        assert!(first < 0.01, "it begins at {first} s");
        assert!(last > 1.2 && last < took_s, "80 frames at 40 a second are 2 s, not {last}: {outcome:?}");
        // Ten a second, of however many seconds it took.
        let most = (10.0 * last) as usize + 4;
        assert!((8..=most).contains(&shown.len()), "{} frames in {last} s", shown.len());
        let nearest = shown.windows(2).map(|pair| pair[1].at_s - pair[0].at_s).fold(f64::MAX, f64::min);
        assert!(nearest > 0.05, "{nearest} s is less than a tenth, and not by a little");
    }

    #[test]
    fn a_video_that_is_full_is_ended_and_the_next_begun_and_all_can_be_played_also_after_a_signal() {
        if !has_gstreamer("a_video_that_is_full") {
            return;
        }
        let bench = Bench::new();
        let source = "[source]\nuri = \"test://ff0000?width=64&height=64\"\npacing = \"camera\"\nfps = 20\n[publish]\njson = \"\"\n\
                      health = \"health.json\"\n";
        let video = "[[video]]\nto = \"films/out.mkv\"\nrotate_s = 1\nkeep = 2\n";
        let config = configure(&bench, &format!("{source}{video}"));
        let mut command = wordsight(&["run", "--config", config.to_str().unwrap()]);
        command.stdout(Stdio::null());
        let mut running = Process::start(command, &bench.path(""));
        let films = || -> Vec<PathBuf> {
            let entries = fs::read_dir(bench.path("films")).into_iter().flatten();
            let mut films: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
            films.sort();
            films
        };
        let first = until(|| films().first().cloned(), || running.stderr());
        until_so(|| !first.exists(), || format!("{:?}", films()));
        // The signal comes in the middle of the newest: there are frames in it.
        running.assert_goes_on();
        running.terminate();
        let films = films();
        assert_eq!(films.len(), 2, "{films:?}");
        for film in &films {
            assert!(!play(film).is_empty(), "{}", film.display());
        }
    }

    #[test]
    fn an_own_pipeline_is_fed_and_one_that_fails_costs_a_camera_nothing_but_the_video() {
        if !has_gstreamer("an_own_pipeline") {
            return;
        }
        let bench = Bench::new();
        let own = bench.path("own.avi");
        let good = format!("gst:videoconvert ! jpegenc ! avimux ! filesink location={}", own.display());
        let source = "[source]\nuri = \"test://ff0000?width=64&height=64\"\npacing = \"camera\"\nfps = 40\n";
        let config = configure(
            &bench,
            &format!(
                "{source}[[video]]\nto = \"gst:identity error-after=3 ! fakesink\"\n[[video]]\nto = \"{good}\"\n"
            ),
        );
        let outcome = run(&config, &["--frames", "60"]);
        assert!(outcome.lines().len() == 60, "{outcome:?}");
        let complaints = outcome.stderr.lines().filter(|line| line.contains("identity")).count();
        assert!(complaints >= 1, "{outcome:?}");
        assert!(play(&own).len() > 5);
    }

    #[test]
    fn a_recording_whose_video_fails_ends_with_the_reason_and_so_does_a_machine_without_an_encoder() {
        if !has_gstreamer("a_recording_whose_video_fails") {
            return;
        }
        let bench = Bench::new();
        let source = "[source]\nuri = \"test://ff0000?width=64&height=64\"\n";
        let failing = "[[video]]\nto = \"gst:identity error-after=3 ! fakesink\"\n";
        let config = configure(&bench, &format!("{source}{failing}"));
        let outcome = run(&config, &["--frames", "500"]);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains("gst:identity"), "{outcome:?}");

        let config = configure(&bench, &format!("{source}[[video]]\nto = \"out.mkv\"\n"));
        let mut command = wordsight(&["run", "--frames", "3", "--config", config.to_str().unwrap()]);
        command
            .env("GST_PLUGIN_SYSTEM_PATH_1_0", bench.path("nothing"))
            .env("GST_REGISTRY", bench.path("registry"));
        let outcome = Outcome::of(command.output().unwrap());
        assert!(outcome.sentence(1).contains("gstreamer1.0-plugins-base"), "{outcome:?}");
    }

    #[test]
    fn a_video_taken_with_the_phone_on_its_side_is_seen_upright() {
        gst::init().unwrap();
        let needed = ["imagefreeze", "qtmux", "qtdemux", "jpegdec", "jpegenc", "videoflip"];
        let missing: Vec<_> =
            needed.iter().filter(|element| gst::ElementFactory::find(element).is_none()).collect();
        if !missing.is_empty() {
            let what = "a_video_taken_with_the_phone_on_its_side";
            return skip(what, &format!("GStreamer has no {missing:?}"), "`scripts/setup cameras`");
        }
        let bench = Bench::new();
        let frame = jpeg(128, 64, [RED, GREY, GREY, GREY], None);
        let photograph = bench.write("frame.jpg", frame);
        let video = bench.path("phone.mov");
        let launch = format!(
            "filesrc location={} ! jpegdec ! imagefreeze num-buffers=5 ! video/x-raw,framerate=10/1 ! jpegenc ! \
             qtmux ! filesink location={}",
            photograph.display(),
            video.display()
        );
        let pipeline = gst::parse::launch(&launch).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let ends = [gst::MessageType::Eos, gst::MessageType::Error];
        let end = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::NONE, &ends).unwrap();
        pipeline.set_state(gst::State::Null).unwrap();
        assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
        // As a phone notes it: the track's matrix turns it clockwise (ISO 14496-12, 8.3.2).
        let mut bytes = fs::read(&video).unwrap();
        let header = bytes.windows(4).position(|window| window == b"tkhd").unwrap();
        let matrix: [i32; 9] = [0, 1 << 16, 0, -(1 << 16), 0, 0, 64 << 16, 0, 1 << 30];
        let matrix = matrix.iter().flat_map(|number| number.to_be_bytes());
        bytes.splice(header + 44..header + 80, matrix);
        fs::write(&video, bytes).unwrap();
        let lines = bench.run(&["run", "--source", video.to_str().unwrap(), "--json", "-"]).lines();
        assert_eq!(lines.len(), 5);
        // As of a photograph with orientation 6: the stored top left comes to the top right.
        assert_near(box_of(&lines[0], "red"), [32.0, 0.0, 64.0, 64.0]);
    }
}
