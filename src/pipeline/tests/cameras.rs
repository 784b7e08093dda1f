//! Several streams on one engine: all frames of files come out, and cameras that hang, flap, are large, come and go leave the
//! others their share.

use wordsight_engines::SharedEngine;

use super::*;
use crate::publish::Live;

/// A camera that gives frames at the pace of its pipeline, or does not.
struct TestCamera {
    size: (usize, usize),
    mood: Mood,
    since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Steady,
    /// It gives frames for a moment, and then none.
    Hangs,
    /// It gives frames in every other half second.
    Flaps,
    /// Its frames are 3840x2160.
    Large,
    /// It is there from 5 s on.
    Comes,
    /// It is there for 10 s.
    Goes,
}

impl TestCamera {
    fn new(mood: Mood) -> Self {
        let size = if mood == Mood::Large { (3840, 2160) } else { (640, 480) };
        Self { size, mood, since: Instant::now() }
    }

    fn is_there(&self) -> bool {
        let age = self.since.elapsed();
        match self.mood {
            Mood::Steady | Mood::Large => true,
            Mood::Hangs => age < Duration::from_millis(200),
            Mood::Flaps => age.subsec_millis() < 500,
            Mood::Comes => age >= Duration::from_secs(5),
            Mood::Goes => age < Duration::from_secs(10),
        }
    }
}

impl Source for TestCamera {
    fn capture(&mut self, frame: &mut Frame) -> Result<Captured, CaptureError> {
        if !self.is_there() {
            thread::sleep(wordsight_capture::LONGEST_NAP);
            let is_over = self.mood == Mood::Goes;
            return Ok(if is_over { Captured::End } else { Captured::NotYet });
        }
        (frame.width, frame.height) = self.size;
        frame.captured_at = Instant::now();
        frame.received_at = frame.captured_at;
        frame.bytes.resize(3 * self.size.0 * self.size.1, 7);
        Ok(Captured::Frame)
    }

    fn rewind(&mut self) -> Result<(), CaptureError> {
        Ok(())
    }
}

fn shared(takes: Duration) -> SharedEngine {
    SharedEngine::new(Box::new(Made { takes, ..Made::new(false) })).unwrap()
}

/// A stream on a shared engine, and where it is seen what comes out.
fn stream(engine: &SharedEngine, source: Box<dyn Source>, pacing: Pacing) -> (Pipeline, Live) {
    let live = Live::default();
    let outputs = Outputs { json: Some(Box::new(std::io::sink())), live: live.clone(), ..Outputs::default() };
    let (engine, scorer) = (Box::new(engine.for_another().unwrap()), scorer(&Made::new(false), "grey"));
    (Pipeline::new(source, pacing, engine, scorer, Publisher::new(outputs).unwrap()), live)
}

#[test]
fn streams_of_files_that_share_an_engine_lose_no_frame() {
    for takes_frames in [false, true] {
        let made = Made { takes: Duration::from_micros(200), ..Made::new(takes_frames) };
        let engine = SharedEngine::new(Box::new(made)).unwrap();
        let streams: Vec<_> = (0..5).map(|_| stream(&engine, greys(60, |_| ()), Pacing::Lossless)).collect();
        thread::scope(|scope| {
            for (pipeline, live) in streams {
                scope.spawn(move || {
                    let report = pipeline.run(&Stop::default(), &Control::default()).unwrap();
                    assert_eq!((report.frames.captured, live.metrics().frames()), (60, 60));
                });
            }
        });
    }
}

#[test]
fn a_stream_that_is_stopped_while_others_wait_for_the_engine_keeps_none_of_them_waiting() {
    for takes_frames in [false, true] {
        let made = Made { takes: Duration::from_millis(2), ..Made::new(takes_frames) };
        one_stops_and_others_go_on(&SharedEngine::new(Box::new(made)).unwrap());
    }
}

fn one_stops_and_others_go_on(engine: &SharedEngine) {
    let camera = || Box::new(TestCamera::new(Mood::Steady));
    let pacing = Pacing::Camera { period: Duration::from_millis(1) };
    let (stop, stop_all) = (Stop::default(), Stop::default());
    thread::scope(|scope| {
        let streams: Vec<(Pipeline, Live)> = (0..4).map(|_| stream(engine, camera(), pacing)).collect();
        let mut lives = Vec::new();
        for (number, (pipeline, live)) in streams.into_iter().enumerate() {
            lives.push(live);
            let stop = if number == 0 { &stop } else { &stop_all };
            scope.spawn(move || pipeline.run(stop, &Control::default()).map(drop).unwrap());
        }
        let come = |live: &Live, more: u64| {
            let before = live.metrics().frames();
            until_so("more frames come", || live.metrics().frames() >= before + more);
        };
        lives.iter().for_each(|live| come(live, 5));
        stop.request();
        lives[1..].iter().for_each(|live| come(live, 5));
        stop_all.request();
    });
}

/// Sixteen cameras of 10 frames/s on an engine of 20 ms, of which one hangs, one flaps, one is at 4K, one comes and one goes:
/// the others get equal shares, and the engine loses none of its time.
#[test]
#[ignore = "a measurement, for a machine that does nothing else"]
fn cameras_that_hang_flap_come_and_go_leave_the_others_their_share() {
    const TAKES: Duration = Duration::from_millis(20);
    let moods = [Mood::Hangs, Mood::Flaps, Mood::Large, Mood::Comes, Mood::Goes];
    let moods: Vec<Mood> = moods.into_iter().chain([Mood::Steady; 11]).collect();
    let engine = shared(TAKES);
    let stop = Stop::default();
    let pacing = Pacing::Camera { period: Duration::from_millis(100) };
    let streams: Vec<_> =
        moods.iter().map(|mood| stream(&engine, Box::new(TestCamera::new(*mood)), pacing)).collect();
    let (frames, seconds) = thread::scope(|scope| {
        let mut lives = Vec::new();
        for (pipeline, live) in streams {
            let stop = &stop;
            lives.push(live);
            scope.spawn(move || pipeline.run(stop, &Control::default()).map(drop).unwrap());
        }
        let count = || lives.iter().map(|live| live.metrics().frames()).collect::<Vec<u64>>();
        thread::sleep(Duration::from_secs(2));
        let (start, before) = (Instant::now(), count());
        thread::sleep(Duration::from_secs(20));
        let (after, seconds) = (count(), start.elapsed().as_secs_f64());
        stop.request();
        let frames: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
        (frames, seconds)
    });
    for (mood, frames) in moods.iter().zip(&frames) {
        println!("{mood:?}: {frames} frames, {:.2} a second", *frames as f64 / seconds);
    }
    let of = |mood| {
        moods.iter().zip(&frames).filter(move |(of, _)| **of == mood).map(|(_, frames)| *frames as f64)
    };
    let steady: Vec<f64> = of(Mood::Steady).collect();
    let mean = steady.iter().sum::<f64>() / steady.len() as f64;
    let furthest = steady.iter().map(|frames| (frames / mean - 1.0).abs()).fold(0.0, f64::max);
    let of_engine = frames.iter().sum::<u64>() as f64 * TAKES.as_secs_f64() / seconds;
    println!("steady ones within {:.1} %, the engine runs {:.3} of the time", 100.0 * furthest, of_engine);
    assert!(furthest <= 0.02 && of_engine >= 0.98 && of(Mood::Large).all(|frames| frames >= 0.98 * mean));
}
