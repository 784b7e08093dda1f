//! Commands: messages to `PREFIX/NAME/words/set` and `PREFIX/NAME/vocabulary/set`, which become change requests.
//!
//! The reloader gets the requests, and the retained topics `words` and `vocabulary` tell what is in use then. Commands
//! have a thread of their own: a request may wait for a teacher.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::command::{Command, InUse, request_of};
use super::outbox::OutboxState;
use crate::requests::{ChangeRequest, Requests};
use crate::threads::{locked, named};

/// Commands that may wait.
const MOST_WAITING: usize = 4;
/// From one look at what is in use to the next: it may have been chosen elsewhere.
const LOOK: Duration = Duration::from_secs(1);

/// Takes commands to the reloader.
pub(super) struct Commands {
    base: String,
    waiting: mpsc::SyncSender<(Command, Vec<u8>)>,
}

impl Commands {
    /// Starts the thread, which ends with this and keeps nobody.
    pub(super) fn start(base: &str, requests: Requests, state: Arc<OutboxState>) -> std::io::Result<Self> {
        let (waiting, commands) = mpsc::sync_channel::<(Command, Vec<u8>)>(MOST_WAITING);
        named("mqtt-commands").spawn(move || {
            while let Ok((command, payload)) = commands.recv() {
                let error = request_of(command, &payload).and_then(|(request, keep)| {
                    requests.ask(request)?;
                    keep.map_or(Ok(()), |keep| requests.ask(ChangeRequest::Keep(keep)))
                });
                let error = error.err();
                if let Some(error) = &error {
                    tracing::warn!("a message to {} is refused: {error}", command.level());
                }
                let in_use = InUse { error, ..InUse::of(&requests.current()) };
                locked(&state.outbox).tell_in_use(&in_use, true);
                state.woken.notify_one();
            }
        })?;
        Ok(Self { base: base.to_owned(), waiting })
    }

    /// What is subscribed to.
    pub(super) fn topics(&self) -> impl Iterator<Item = String> {
        Command::ALL.into_iter().map(|command| command.topic(&self.base))
    }

    /// Takes a message of the broker. One that it has kept since earlier is no command: it would come again with each
    /// connection.
    pub(super) fn take(&self, topic: &str, payload: &[u8], is_retained: bool) {
        let Some(command) = Command::ALL.into_iter().find(|command| command.topic(&self.base) == topic)
        else {
            return;
        };
        if is_retained {
            tracing::warn!("{topic}: a retained message is not followed: publish it without the retain flag");
        } else if self.waiting.try_send((command, payload.to_owned())).is_err() {
            tracing::warn!("{topic}: a message is not followed, because others are not done yet");
        }
    }
}

/// Looks now and then whether something else is in use.
pub(super) struct InUseWatch {
    requests: Requests,
    looked: Option<Instant>,
}

impl InUseWatch {
    pub(super) fn new(requests: Requests) -> Self {
        Self { requests, looked: None }
    }

    /// What is in use, where it is time to look. As long as no words are shown there is nothing to tell.
    pub(super) fn look(&mut self, now: Instant) -> Option<InUse> {
        if self.looked.is_some_and(|looked| now.saturating_duration_since(looked) < LOOK) {
            return None;
        }
        self.looked = Some(now);
        let current = self.requests.current();
        (current.words.len() > 0).then(|| InUse::of(&current))
    }
}
