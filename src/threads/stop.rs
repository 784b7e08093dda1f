//! Requests to stop, and signals that make them.
//!
//! A value that is passed in, never a global: the first SIGINT or SIGTERM asks the stream to end
//! cleanly, the second ends the process at once. What can't end, because a reader doesn't read or a file system hangs,
//! is ended after a while ([`Stop::ends_process_after`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};

/// From one look at whether a stop was requested to the next.
const LOOK: Duration = Duration::from_millis(250);

/// Whether someone outside of the stream wants it to end.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    is_requested: Arc<AtomicBool>,
    /// Of all that this is a part of.
    parents: Vec<Arc<AtomicBool>>,
}

impl Stop {
    /// A stop that SIGINT and SIGTERM request.
    ///
    /// # Errors
    /// When the system refuses to register a handler.
    pub fn on_signals() -> std::io::Result<Self> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // In this order: the shutdown looks at the flag before the next line's handler sets it.
            let code_of_killed = 128 + signal;
            signal_hook::flag::register_conditional_shutdown(
                signal,
                code_of_killed,
                Arc::clone(&stop.is_requested),
            )?;
            signal_hook::flag::register(signal, Arc::clone(&stop.is_requested))?;
        }
        Ok(stop)
    }

    /// Sees to it that the process ends, with exit code 1, when it still runs so long after a stop was requested.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub fn ends_process_after(&self, longest: Duration) -> std::io::Result<()> {
        let stop = self.clone();
        let watch = move || {
            while !stop.is_requested() {
                thread::sleep(LOOK);
            }
            thread::sleep(longest);
            // By a thread of its own: what holds the stream up may hold up this too.
            let seconds = longest.as_secs_f64();
            let telling = thread::Builder::new().spawn(move || {
                tell!(
                    "wordsight: the stream has not ended {seconds:.0} s after it was asked to: whoever reads the results, \
                     a file system or the engine holds it up; what was not written is lost"
                );
            });
            drop(telling);
            thread::sleep(LOOK);
            // At once: libraries must not be taken down under threads that still use them.
            signal_hook::low_level::exit(1);
        };
        // It isn't joined: it ends with the process.
        thread::Builder::new().name("stop".to_owned()).spawn(watch).map(drop)
    }

    /// One that is requested with this one, and can be alone.
    pub fn child(&self) -> Self {
        let parents = self.parents.iter().chain([&self.is_requested]).cloned().collect();
        Self { is_requested: Arc::default(), parents }
    }

    /// Requests it.
    pub fn request(&self) {
        self.is_requested.store(true, Ordering::Relaxed);
    }

    /// Requests the end of the whole process, of which this may be a part.
    pub fn request_all(&self) {
        self.flags().for_each(|flag| flag.store(true, Ordering::Relaxed));
    }

    /// Whether it was requested.
    pub fn is_requested(&self) -> bool {
        self.flags().any(|flag| flag.load(Ordering::Relaxed))
    }

    fn flags(&self) -> impl Iterator<Item = &Arc<AtomicBool>> {
        [&self.is_requested].into_iter().chain(&self.parents)
    }
}
