//! The bounded queue between the stream and one output.
//!
//! Hands the stream's messages to one output's thread, in order. Where the stream may not wait, a full queue loses its
//! oldest message and says so; where it may (a file's), it waits for room.
//!
//! The stages' [`ring`](crate::threads::ring) can only overwrite. For a file an output must get every message, so this
//! queue makes the stream wait instead.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::threads::locked;

/// A queue between two threads; shared by reference.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    size: usize,
}

struct State<T> {
    items: VecDeque<T>,
    /// Whether the stream may wait for room.
    waits: bool,
    /// No more will come.
    is_closed: bool,
    /// Nobody takes any more.
    is_abandoned: bool,
    /// Whether the reader waits at the empty queue, having done all that came out of it.
    is_idle: bool,
}

/// What became of an item.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It is in.
    In,
    /// It is in, and the oldest is lost.
    OldestLost,
    /// Nobody will take it.
    Abandoned,
}

impl<T> Queue<T> {
    /// An empty queue for `size` items, which it has room for from the start.
    pub(super) fn new(size: usize) -> Self {
        let state = State {
            items: VecDeque::with_capacity(size),
            waits: false,
            is_closed: false,
            is_abandoned: false,
            is_idle: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), size }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        locked(&self.state)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `push` waits for room from now on.
    pub(super) fn set_waits(&self, waits: bool) {
        self.state().waits = waits;
    }

    /// Whether `push` waits for room: the stream can.
    pub(super) fn waits(&self) -> bool {
        self.state().waits
    }

    /// Puts an item in.
    pub(super) fn push(&self, item: T) -> Pushed {
        let mut state = self.state();
        while state.waits && state.items.len() == self.size && !state.is_abandoned {
            state = self.wait(state);
        }
        if state.is_abandoned {
            return Pushed::Abandoned;
        }
        let oldest = if state.items.len() == self.size { state.items.pop_front() } else { None };
        state.items.push_back(item);
        drop(state);
        self.changed.notify_all();
        // Dropped here, and not under the lock.
        if oldest.is_some() { Pushed::OldestLost } else { Pushed::In }
    }

    /// The oldest item as soon as there is one; `None` when the queue is closed and empty.
    pub(super) fn pop(&self) -> Option<T> {
        self.pop_until(None)
    }

    /// The oldest item, if there is one before so long.
    pub(super) fn pop_within(&self, longest: Duration) -> Option<T> {
        self.pop_until(Some(Instant::now() + longest))
    }

    fn pop_until(&self, end: Option<Instant>) -> Option<T> {
        let mut state = self.state();
        loop {
            if let Some(item) = state.items.pop_front() {
                state.is_idle = false;
                drop(state);
                self.changed.notify_all();
                return Some(item);
            }
            if !std::mem::replace(&mut state.is_idle, true) {
                self.changed.notify_all();
            }
            if state.is_closed {
                return None;
            }
            state = match end {
                None => self.wait(state),
                Some(end) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// How many may wait.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.state().items.len()
    }

    /// Whether no more will come than are in it.
    pub(super) fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    /// Whether nobody takes any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.state().is_abandoned
    }

    /// No more will come.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }

    /// Nobody will take any more; what is in it is dropped.
    pub(super) fn abandon(&self) {
        let items = {
            let mut state = self.state();
            state.is_abandoned = true;
            std::mem::take(&mut state.items)
        };
        self.changed.notify_all();
        drop(items);
    }

    /// Waits until all that came is taken and done, nobody takes any more, or it has taken too long; `None`: as long as
    /// it takes.
    pub(super) fn wait_until_done(&self, longest: Option<Duration>) {
        let end = longest.map(|longest| Instant::now() + longest);
        let mut state = self.state();
        while !state.is_abandoned && (!state.items.is_empty() || !state.is_idle) {
            state = match end {
                None => self.wait(state),
                Some(end) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return;
                    }
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_full_queue_of_a_camera_loses_its_oldest_and_one_of_a_file_waits_for_room() {
        let queue = Queue::new(2);
        assert_eq!([1, 2, 3].map(|item| queue.push(item)), [Pushed::In, Pushed::In, Pushed::OldestLost]);
        queue.set_waits(true);
        thread::scope(|scope| {
            let pushed = scope.spawn(|| queue.push(4));
            assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some(2), Some(3), Some(4)]);
            assert_eq!(pushed.join().ok(), Some(Pushed::In));
        });
    }

    #[test]
    fn whoever_waits_for_room_is_told_when_nobody_takes_any_more() {
        let queue = Queue::new(1);
        queue.set_waits(true);
        assert_eq!(queue.push(1), Pushed::In);
        thread::scope(|scope| {
            let pushed = scope.spawn(|| queue.push(2));
            thread::sleep(Duration::from_millis(10));
            queue.abandon();
            assert_eq!(pushed.join().ok(), Some(Pushed::Abandoned));
        });
    }

    #[test]
    fn a_closed_queue_gives_what_is_in_it_and_then_ends() {
        let queue = Queue::new(2);
        queue.push(1);
        queue.close();
        assert_eq!(
            (queue.pop(), queue.pop(), queue.pop_within(Duration::from_secs(9))),
            (Some(1), None, None)
        );
    }

    #[test]
    fn what_came_is_done_when_the_reader_asks_for_more() {
        let queue = Queue::new(2);
        queue.push(1);
        queue.wait_until_done(Some(Duration::from_millis(5)));
        assert_eq!(queue.len(), 1, "nobody has taken it");
        thread::scope(|scope| {
            scope.spawn(|| while queue.pop().is_some() {});
            queue.wait_until_done(None);
            queue.close();
        });
    }
}
