//! One engine for several streams: a queue in which they take turns, and the engine behind it.
//!
//! Each stream has a [`SharedEngine`] of its own; all of them run the same engine. A stream that has a frame waits in the
//! [`EngineQueue`] for a turn, and takes its newest frame when it gets one. So frames are letterboxed that will be run, and
//! none grows old in a queue.
//!
//! Whose turn is next is decided by start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): a turn costs a stream the
//! inverse of its priority, and the stream that has spent least comes first; of equals, the one that has waited longest.
//! A stream without frames saves nothing up, so one that comes back takes no more than its share. Of the frames
//! that are ready, the engine runs the one whose turn came first.

use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{Engine, EngineError, ManyStreams, Regions, StudentFacts, WholeFrames};

/// Turns that are given at once: one for the frame that the engine runs, the others for frames that are made ready
/// meanwhile. With two of those, a frame that takes long to letterbox doesn't keep the engine waiting.
const TURNS: usize = 3;
/// The most of them that one stream has: with one, the engine would wait for its letterbox. While a stream with that many
/// has spent less than those that wait, they get the turns left over only if the engine has nothing to run.
const TURNS_OF_ONE: usize = 2;
/// From one look at whether a stream that waits is to end to the next.
const LOOK: Duration = Duration::from_millis(50);
/// The smallest priority that counts.
const LEAST_PRIORITY: f64 = 1e-3;

/// An engine that several streams use, as one of them has it.
///
/// One that makes another of itself ([`ManyStreams`]) takes whole frames and words of each stream; any other is
/// lent to one stream at a time, and takes letterboxed inputs.
pub struct SharedEngine {
    engine: Shared,
    queue: EngineQueue,
    name: String,
    title: String,
    facts: StudentFacts,
}

enum Shared {
    /// This stream's own, beside those of others.
    Beside(Box<dyn ManyStreams>),
    /// The one that there is.
    Lent(Arc<Mutex<Box<dyn Engine>>>),
}

impl SharedEngine {
    /// Shares an engine; this is the first stream's.
    ///
    /// # Errors
    /// When the engine has no room for streams beside the first.
    pub fn new(engine: Box<dyn Engine>) -> Result<Self, EngineError> {
        let (name, title) = (engine.name().to_owned(), engine.title().to_owned());
        let (facts, queue) = (engine.facts().clone(), EngineQueue::default());
        let engine = match engine.many_streams() {
            Some(many) => Shared::Beside(many.for_another()?),
            None => Shared::Lent(Arc::new(Mutex::new(engine))),
        };
        Ok(Self { engine, queue, name, title, facts })
    }

    /// The same engine, for another stream.
    ///
    /// # Errors
    /// When the engine has no room for it.
    pub fn for_another(&self) -> Result<Self, EngineError> {
        let engine = match &self.engine {
            Shared::Lent(engine) => Shared::Lent(Arc::clone(engine)),
            Shared::Beside(engine) => Shared::Beside(engine.for_another()?),
        };
        Ok(Self {
            engine,
            queue: self.queue.for_another(),
            name: self.name.clone(),
            title: self.title.clone(),
            facts: self.facts.clone(),
        })
    }
}

impl Engine for SharedEngine {
    fn name(&self) -> &str {
        &self.name
    }

    fn title(&self) -> &str {
        &self.title
    }

    fn facts(&self) -> &StudentFacts {
        &self.facts
    }

    fn infer(&mut self, image: &[u8], regions: &mut Regions) -> Result<(), EngineError> {
        match &mut self.engine {
            Shared::Beside(engine) => engine.infer(image, regions),
            Shared::Lent(engine) => locked(engine).infer(image, regions),
        }
    }

    fn whole_frames(&mut self) -> Option<&mut dyn WholeFrames> {
        match &mut self.engine {
            Shared::Beside(engine) => engine.whole_frames(),
            Shared::Lent(_) => None,
        }
    }

    fn queue(&self) -> Option<EngineQueue> {
        Some(self.queue.clone())
    }
}

/// A stream's place in the queue for an engine. Clones are the same stream's.
#[derive(Clone)]
pub struct EngineQueue(Arc<Place>);

/// The right to have one frame run; dropping it gives the next turn.
pub struct EngineTurn {
    place: Arc<Place>,
    number: u64,
}

/// Says, while it is there, that a thread runs a stream's frames.
pub struct Running(Arc<Place>);

struct Place {
    queue: Arc<Queue>,
    number: u64,
    /// Woken when it is this stream's turn.
    called: Arc<Condvar>,
}

#[derive(Default)]
struct Queue {
    line: Mutex<Line>,
    /// Woken when the engine may run another frame.
    freed: Condvar,
}

/// All streams of an engine.
#[derive(Default)]
struct Line {
    streams: Vec<Stream>,
    /// The number of the next stream.
    next: u64,
    /// Turns that are taken, in the order in which they were given.
    turns: Vec<Turn>,
    /// The number of the next turn.
    next_turn: u64,
    /// What the stream that was called last had spent by then.
    spent: f64,
}

struct Turn {
    number: u64,
    stream: u64,
    progress: Progress,
}

/// How far the frame of a turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// It is letterboxed.
    Given,
    /// The engine can run it.
    Ready,
    /// The engine runs it.
    Running,
}

struct Stream {
    number: u64,
    called: Arc<Condvar>,
    /// What its turns have cost, in turns of priority 1.
    spent: f64,
    /// The cost of its next turn.
    cost: f64,
    /// Since when it waits, if it does.
    waits_since: Option<Instant>,
    /// The turn that it was called for last.
    turn: u64,
    /// Whether a thread runs its frames.
    is_running: bool,
}

impl Default for EngineQueue {
    fn default() -> Self {
        Self::join(Arc::default())
    }
}

impl EngineQueue {
    /// The most turns that one stream has at once: a frame each, between the letterbox and the end of its run.
    pub const TURNS_OF_ONE: NonZeroUsize = NonZeroUsize::new(TURNS_OF_ONE).unwrap();

    fn join(queue: Arc<Queue>) -> Self {
        let called = Arc::new(Condvar::new());
        let number = locked(&queue.line).join(Arc::clone(&called));
        Self(Arc::new(Place { queue, number, called }))
    }

    fn for_another(&self) -> Self {
        Self::join(Arc::clone(&self.0.queue))
    }

    /// Waits for a turn. With twice the `priority` of another, a stream gets twice as many turns where both always wait.
    /// There is none where the stream is to end meanwhile.
    ///
    /// One thread of a stream may wait at a time.
    pub fn wait(&self, priority: f64, is_to_end: &dyn Fn() -> bool) -> Option<EngineTurn> {
        let Self(place) = self;
        let mut line = locked(&place.queue.line);
        line.wait(place.number, priority, Instant::now());
        line.call();
        while line.is_waiting(place.number) {
            if is_to_end() {
                line.give_up(place.number);
                return None;
            }
            let woken = place.called.wait_timeout(line, LOOK);
            (line, _) = woken.unwrap_or_else(PoisonError::into_inner);
        }
        let number = line.stream(place.number)?.turn;
        Some(EngineTurn { place: Arc::clone(place), number })
    }

    /// Says that a thread runs this stream's frames from now on, until what is returned is dropped. Only meanwhile do other
    /// streams' frames wait for one of its that is ready and came before them; with the end of it the stream has no turns.
    pub fn running(&self) -> Running {
        locked(&self.0.queue.line).set_running(self.0.number, true);
        Running(Arc::clone(&self.0))
    }
}

impl EngineTurn {
    /// Says that the engine can run the frame.
    pub fn ready(&mut self) {
        locked(&self.place.queue.line).ready(self.number);
    }

    /// Waits until the engine is done with the frames before this one, which it may run from then on.
    pub fn begin(&mut self) {
        let mut line = locked(&self.place.queue.line);
        while !line.begin(self.number) {
            line = self.place.queue.freed.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        locked(&self.queue.line).leave(self.number);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Self(place) = self;
        let mut line = locked(&place.queue.line);
        line.set_running(place.number, false);
        // Frames that have a turn may be in a ring that is gone only when its sender is.
        line.turns.retain(|turn| turn.stream != place.number);
        line.call();
        place.queue.freed.notify_all();
    }
}

impl Drop for EngineTurn {
    fn drop(&mut self) {
        let mut line = locked(&self.place.queue.line);
        line.give_back(self.number);
        line.call();
        self.place.queue.freed.notify_all();
    }
}

impl Line {
    fn join(&mut self, called: Arc<Condvar>) -> u64 {
        let number = self.next;
        self.next += 1;
        let spent = self.spent;
        self.streams.push(Stream {
            number,
            called,
            spent,
            cost: 1.0,
            waits_since: None,
            turn: 0,
            is_running: false,
        });
        self.turns.reserve(TURNS);
        number
    }

    fn leave(&mut self, number: u64) {
        self.streams.retain(|stream| stream.number != number);
    }

    fn stream(&mut self, number: u64) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|stream| stream.number == number)
    }

    fn wait(&mut self, number: u64, priority: f64, now: Instant) {
        let spent = self.spent;
        if let Some(stream) = self.stream(number) {
            stream.cost = priority.max(LEAST_PRIORITY).recip();
            stream.waits_since = Some(now);
            // What it didn't take while it had no frame is no credit.
            stream.spent = stream.spent.max(spent);
        }
    }

    fn give_up(&mut self, number: u64) {
        if let Some(stream) = self.stream(number) {
            stream.waits_since = None;
        }
    }

    fn is_waiting(&mut self, number: u64) -> bool {
        self.stream(number).is_some_and(|stream| stream.waits_since.is_some())
    }

    /// Gives the turns that are free, each to the stream that is next.
    fn call(&mut self) {
        while self.turns.len() < TURNS {
            let Self { streams, turns, .. } = self;
            let has_most = |stream: &Stream| {
                turns.iter().filter(|turn| turn.stream == stream.number).count() >= TURNS_OF_ONE
            };
            let waiting = streams.iter_mut().filter(|stream| !has_most(stream));
            let waiting = waiting.filter_map(|stream| Some((stream.waits_since?, stream)));
            let next = waiting.min_by(|(since, stream), (of_other, other)| {
                stream.spent.total_cmp(&other.spent).then(since.cmp(of_other))
            });
            let Some((_, Stream { number, spent, .. })) = next else { return };
            let (number, spent) = (*number, *spent);
            let is_before = |other: &Stream| other.is_running && other.spent < spent && has_most(other);
            if streams.iter().any(is_before) && self.is_busy() {
                return;
            }
            self.spent = spent;
            self.give(number);
        }
    }

    /// Gives a stream a turn.
    fn give(&mut self, stream: u64) {
        let number = self.next_turn;
        self.next_turn += 1;
        self.turns.push(Turn { number, stream, progress: Progress::Given });
        if let Some(stream) = self.stream(stream) {
            stream.waits_since = None;
            stream.turn = number;
            stream.spent += stream.cost;
            stream.called.notify_one();
        }
    }

    fn give_back(&mut self, turn: u64) {
        self.turns.retain(|taken| taken.number != turn);
    }

    fn set_running(&mut self, stream: u64, is_running: bool) {
        if let Some(stream) = self.stream(stream) {
            stream.is_running = is_running;
        }
    }

    fn ready(&mut self, turn: u64) {
        if let Some(turn) = self.turns.iter_mut().find(|taken| taken.number == turn) {
            turn.progress = Progress::Ready;
        }
    }

    /// Has the engine run a frame, if it is free and this is the next that it can run.
    fn begin(&mut self, turn: u64) -> bool {
        if let Some(running) = self.running() {
            return running.number == turn;
        }
        let is_next = self.next_to_run().is_none_or(|next| next.number >= turn);
        if let Some(turn) = self.turns.iter_mut().find(|taken| is_next && taken.number == turn) {
            turn.progress = Progress::Running;
        }
        is_next
    }

    /// The turn whose frame the engine runs.
    fn running(&self) -> Option<&Turn> {
        self.turns.iter().find(|turn| turn.progress == Progress::Running)
    }

    /// The turn whose frame the engine is to run next, of those that are ready.
    fn next_to_run(&self) -> Option<&Turn> {
        self.turns.iter().find(|turn| turn.progress == Progress::Ready && self.is_run(turn))
    }

    /// Whether the engine has a frame to run, or runs one.
    fn is_busy(&self) -> bool {
        self.running().is_some() || self.next_to_run().is_some()
    }

    /// Whether a thread runs the frames of the turn's stream.
    fn is_run(&self, turn: &Turn) -> bool {
        self.streams.iter().any(|stream| stream.number == turn.stream && stream.is_running)
    }
}

/// A lock that a panic elsewhere doesn't close: what it guards is whole between two of its uses.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;

    /// Streams in a line whose frames are ready at once.
    struct Streams {
        line: Line,
        now: Instant,
        got: BTreeMap<u64, u32>,
    }

    impl Streams {
        fn new(number: usize) -> Self {
            let mut line = Line::default();
            for _ in 0..number {
                let stream = line.join(Arc::default());
                line.set_running(stream, true);
            }
            Self { line, now: Instant::now(), got: BTreeMap::new() }
        }

        /// Has a stream wait, if it doesn't.
        fn has_frame(&mut self, number: u64, priority: f64) {
            if !self.line.is_waiting(number) {
                self.now += Duration::from_micros(1);
                self.line.wait(number, priority, self.now);
            }
        }

        /// Runs the next frame of those that are ready, which all are but a slow stream's.
        fn run_one_beside(&mut self, slow: Option<u64>) {
            self.line.call();
            assert!(self.line.turns.len() <= TURNS);
            let given: Vec<u64> = self
                .line
                .turns
                .iter()
                .filter(|turn| Some(turn.stream) != slow)
                .map(|turn| turn.number)
                .collect();
            given.into_iter().for_each(|turn| self.line.ready(turn));
            self.line.call();
            let Some(&Turn { number, stream, .. }) = self.line.next_to_run() else { return };
            assert!(self.line.begin(number));
            *self.got.entry(stream).or_default() += 1;
            self.line.give_back(number);
        }

        fn run_one(&mut self) {
            self.run_one_beside(None);
        }

        fn of(&self, number: u64) -> u32 {
            self.got.get(&number).copied().unwrap_or_default()
        }
    }

    #[test]
    fn streams_that_always_have_a_frame_get_the_same_and_wait_no_longer_than_a_round() {
        let mut streams = Streams::new(16);
        let mut last = [0; 16];
        for turn in 1..=1600 {
            (0..16).for_each(|number| streams.has_frame(number, 1.0));
            let before = streams.got.clone();
            streams.run_one();
            for number in 0..16 {
                if streams.of(number) > before.get(&number).copied().unwrap_or_default() {
                    last[number as usize] = turn;
                }
                assert!(turn - last[number as usize] <= 16 + TURNS, "stream {number} at turn {turn}");
            }
        }
        assert!((0..16).all(|number| streams.of(number).abs_diff(100) <= 1), "{:?}", streams.got);
    }

    #[test]
    fn turns_go_by_priority_where_both_always_wait() {
        let mut streams = Streams::new(3);
        for _ in 0..900 {
            streams.has_frame(0, 1.0);
            streams.has_frame(1, 2.0);
            streams.has_frame(2, 6.0);
            streams.run_one();
        }
        let got = [0, 1, 2].map(|number| streams.of(number));
        assert!(
            got[0].abs_diff(100) <= 2 && got[1].abs_diff(200) <= 2 && got[2].abs_diff(600) <= 4,
            "{got:?}"
        );
    }

    #[test]
    fn of_two_streams_one_gets_as_much_more_as_its_priority_is_higher() {
        for (priority, shares) in [(2.0, [300, 600]), (8.0, [100, 800]), (0.5, [600, 300])] {
            let mut streams = Streams::new(2);
            for _ in 0..900 {
                streams.has_frame(0, 1.0);
                streams.has_frame(1, priority);
                streams.run_one();
            }
            let got = [streams.of(0), streams.of(1)];
            assert!(got[0].abs_diff(shares[0]) <= 2, "priority {priority}: {got:?}");
            assert!(got[1].abs_diff(shares[1]) <= 2, "priority {priority}: {got:?}");
        }
    }

    #[test]
    fn the_engine_runs_what_is_ready_while_the_stream_that_is_before_is_not() {
        let mut streams = Streams::new(2);
        for _ in 0..100 {
            streams.has_frame(0, 1.0);
            streams.has_frame(1, 8.0);
            streams.run_one_beside(Some(1));
        }
        assert_eq!((streams.of(0), streams.of(1)), (100, 0));
        streams.run_one();
        assert_eq!((streams.of(0), streams.of(1)), (100, 1), "the turns of the slow one came before");
    }

    #[test]
    fn frames_that_nobody_runs_keep_no_other_waiting() {
        let queue = EngineQueue::default();
        let mut of_stopped = queue.wait(1.0, &|| false).unwrap();
        of_stopped.ready();
        let other = queue.for_another();
        let running = other.running();
        let mut turn = other.wait(1.0, &|| false).unwrap();
        turn.ready();
        turn.begin();
        drop((turn, running));
    }

    #[test]
    fn a_stream_whose_thread_ended_with_turns_left_gets_another() {
        let queue = EngineQueue::default();
        let running = queue.running();
        let left: Vec<EngineTurn> = (0..TURNS_OF_ONE)
            .filter_map(|_| queue.wait(1.0, &|| false))
            .map(|mut turn| {
                turn.ready();
                turn
            })
            .collect();
        drop(running);
        assert!(
            queue.wait(1.0, &|| true).is_some(),
            "whoever sends frames is to find that nobody takes them"
        );
        drop(left);
    }

    #[test]
    fn a_stream_that_was_away_gets_its_share_and_no_more() {
        let mut streams = Streams::new(2);
        for turn in 0..1000 {
            streams.has_frame(0, 1.0);
            if turn >= 800 {
                streams.has_frame(1, 1.0);
            }
            streams.run_one();
        }
        assert!(streams.of(1).abs_diff(100) <= 2, "{:?}", streams.got);
    }

    #[test]
    fn a_slow_stream_gets_all_of_its_frames_run() {
        let mut streams = Streams::new(4);
        for turn in 0..1000 {
            (0..3).for_each(|number| streams.has_frame(number, 1.0));
            if turn % 10 == 0 {
                streams.has_frame(3, 1.0);
            }
            streams.run_one();
        }
        assert!(streams.of(3).abs_diff(100) <= 1, "{:?}", streams.got);
        assert!((0..3).all(|number| streams.of(number).abs_diff(300) <= 2), "{:?}", streams.got);
    }

    #[test]
    fn a_stream_alone_has_one_frame_run_and_one_made_ready() {
        let mut line = Line::default();
        let number = line.join(Arc::default());
        for _ in 0..TURNS {
            line.wait(number, 1.0, Instant::now());
            line.call();
        }
        assert_eq!((line.turns.len(), line.is_waiting(number)), (TURNS_OF_ONE, true));
        line.give_back(0);
        line.call();
        assert!(!line.is_waiting(number));
    }

    #[test]
    fn one_frame_is_run_at_a_time() {
        let queue = EngineQueue::default();
        let mut first = queue.wait(1.0, &|| false).unwrap();
        let mut second = queue.for_another().wait(1.0, &|| false).unwrap();
        first.begin();
        first.begin();
        let (tell, told) = std::sync::mpsc::channel();
        let running = std::thread::spawn(move || {
            second.begin();
            tell.send(()).unwrap();
        });
        assert!(told.recv_timeout(Duration::from_millis(20)).is_err(), "the first has the engine");
        drop(first);
        told.recv().unwrap();
        running.join().unwrap();
    }

    #[test]
    fn a_stream_that_goes_while_it_has_a_turn_keeps_nobody_waiting() {
        let queue = EngineQueue::default();
        let others: Vec<EngineQueue> = (0..TURNS).map(|_| queue.for_another()).collect();
        let turns: Vec<EngineTurn> = others.iter().filter_map(|other| other.wait(1.0, &|| false)).collect();
        assert!(queue.wait(1.0, &|| true).is_none(), "a stream that is to end waits for nobody");
        let waiting = std::thread::spawn(move || drop(queue.wait(1.0, &|| false)));
        drop(others);
        drop(turns);
        waiting.join().unwrap();
    }
}
