//! The ring between two stages: it overwrites its oldest item, and wakes whoever waits at it.
//!
//! Holds the newest items; a slow reader misses stale ones and finds the newest. The ring is `ring-channel`'s. Its own
//! way of waiting goes by wakers, each of which is allocated; a mutex and a condition variable allocate
//! nothing, and neither does the ring where an item is no larger than a pointer, as a leased job is.

use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ring_channel::{RingReceiver, RingSender, TryRecvError, ring_channel};

use crate::threads::locked;

/// The two ends of a ring that holds as many items as `size`.
pub fn ring<T>(size: NonZeroUsize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = ring_channel(size);
    let wakeup = Arc::new(Wakeup::default());
    (Sender { ring: Some(sender), wakeup: Arc::clone(&wakeup) }, Receiver { ring: receiver, wakeup })
}

/// There is nobody at the other end, and never will be.
#[derive(Debug, PartialEq, Eq)]
pub struct Disconnected;

/// The end that items go into.
pub struct Sender<T> {
    /// Always there but while it is dropped.
    ring: Option<RingSender<T>>,
    wakeup: Arc<Wakeup>,
}

impl<T> Sender<T> {
    /// Puts an item in; returns the one that it pushed out, if the ring was full.
    ///
    /// # Errors
    /// When the receiver is gone; the item is dropped.
    pub fn send(&self, item: T) -> Result<Option<T>, Disconnected> {
        let Some(ring) = &self.ring else { return Err(Disconnected) };
        let pushed_out = ring.send(item).map_err(|_| Disconnected)?;
        self.wakeup.notify();
        Ok(pushed_out)
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // In this order: who is woken finds that nobody sends any more.
        self.ring = None;
        self.wakeup.notify();
    }
}

/// The end that items come out of.
pub struct Receiver<T> {
    ring: RingReceiver<T>,
    wakeup: Arc<Wakeup>,
}

impl<T> Receiver<T> {
    /// The oldest item in the ring, as soon as there is one.
    ///
    /// # Errors
    /// When the ring is empty and the sender is gone.
    pub fn recv(&self) -> Result<T, Disconnected> {
        loop {
            match self.ring.try_recv() {
                Ok(item) => return Ok(item),
                Err(TryRecvError::Disconnected) => return Err(Disconnected),
                Err(TryRecvError::Empty) => self.wakeup.wait(),
            }
        }
    }

    /// The oldest item in the ring, if there is one before so long.
    pub fn recv_within(&self, longest: Duration) -> Option<T> {
        let until = Instant::now() + longest;
        loop {
            match self.ring.try_recv() {
                Ok(item) => return Some(item),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) if !self.wakeup.wait_until(until) => return self.try_recv(),
                Err(TryRecvError::Empty) => {}
            }
        }
    }

    /// The oldest item in the ring, if there is one now.
    pub fn try_recv(&self) -> Option<T> {
        self.ring.try_recv().ok()
    }
}

/// Remembers that it was rung until somebody has heard it.
#[derive(Default)]
struct Wakeup {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Wakeup {
    fn notify(&self) {
        *locked(&self.rung) = true;
        self.heard.notify_one();
    }

    fn wait(&self) {
        let rung = locked(&self.rung);
        let mut rung = self.heard.wait_while(rung, |rung| !*rung).unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }

    /// As [`Self::wait`], but not for longer; whether it was rung.
    fn wait_until(&self, until: Instant) -> bool {
        let rung = locked(&self.rung);
        let longest = until.saturating_duration_since(Instant::now());
        let waited = self.heard.wait_timeout_while(rung, longest, |rung| !*rung);
        let (mut rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *rung)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::thread;

    use super::*;

    #[test]
    fn a_full_ring_gives_its_oldest_item_back_to_the_sender() {
        for size in [1, 2] {
            let (sender, receiver) = ring(NonZeroUsize::new(size).unwrap());
            let pushed_out: Vec<Option<usize>> = (0..4).map(|item| sender.send(item).unwrap()).collect();
            let expected: Vec<Option<usize>> = (0..4).map(|item: usize| item.checked_sub(size)).collect();
            assert_eq!(pushed_out, expected);
            assert_eq!(receiver.recv(), Ok(4 - size));
        }
    }

    #[test]
    fn who_waits_is_woken_by_an_item_and_by_the_senders_end() {
        let (sender, receiver) = ring(NonZeroUsize::MIN);
        let waiting = thread::spawn(move || [receiver.recv(), receiver.recv()]);
        thread::sleep(Duration::from_millis(10));
        sender.send(7).unwrap();
        thread::sleep(Duration::from_millis(10));
        drop(sender);
        assert_eq!(waiting.join().unwrap(), [Ok(7), Err(Disconnected)]);
    }

    #[test]
    fn who_waits_for_a_while_gets_what_comes_in_time_and_nothing_later() {
        let (sender, receiver) = ring(NonZeroUsize::MIN);
        assert_eq!(receiver.recv_within(Duration::from_millis(5)), None);
        let sending = thread::spawn(move || {
            thread::sleep(Duration::from_millis(10));
            sender.send(7).unwrap();
        });
        assert_eq!(receiver.recv_within(Duration::from_secs(10)), Some(7));
        sending.join().unwrap();
        assert_eq!(receiver.recv_within(Duration::from_secs(10)), None, "the sender is gone");
    }

    #[test]
    fn what_was_sent_before_the_end_still_comes_out() {
        let (sender, receiver) = ring(NonZeroUsize::new(3).unwrap());
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        drop(sender);
        assert_eq!([receiver.recv(), receiver.recv(), receiver.recv()], [Ok(1), Ok(2), Err(Disconnected)]);
    }

    #[test]
    fn a_sender_hears_that_nobody_receives() {
        let (sender, receiver) = ring(NonZeroUsize::MIN);
        drop(receiver);
        assert_eq!(sender.send(1), Err(Disconnected));
    }

    #[test]
    fn nothing_is_lost_between_a_fast_sender_and_a_receiver_that_often_waits() {
        let (sender, receiver) = ring(NonZeroUsize::new(20_000).unwrap());
        let receiving = thread::spawn(move || {
            let mut sum = 0_u64;
            while let Ok(item) = receiver.recv() {
                sum += item;
            }
            sum
        });
        (0..20_000_u64).for_each(|item| drop(sender.send(item)));
        drop(sender);
        assert_eq!(receiving.join().unwrap(), 19_999 * 10_000);
    }
}
