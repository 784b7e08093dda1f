//! The connection to the broker: last will, acknowledgements, and reconnection with back-off.
//!
//! Sends publications from the [`Outbox`](super::outbox::Outbox), and tells it what the broker has acknowledged.
//!
//! Each connection has an MQTT client of its own. What was in flight when one breaks goes back to the outbox, which
//! knows what is still worth sending; a client that kept it would send it a second time.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, Incoming, LastWill, MqttOptions,
    Outgoing, QoS, StateError, SubscribeReasonCode, TlsConfiguration, TlsError, Transport,
};
use tokio::time::timeout_at;
use wordsight_capture::Backoff;

use super::command::Command;
use super::commands::Commands;
use super::outbox::{OutboxState, Publication, What};
use super::settings::MqttSettings;
use crate::publish::network;
use crate::publish::sink::Inbox;
use crate::threads::locked;

/// How many publications are under way at most.
const WINDOW: usize = 16;
/// How long a broker may take to take a connection, or a packet, seconds.
const LONGEST_ANSWER_S: u64 = 5;
/// The shortest and longest wait before the broker is tried again.
const WAITS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// How long it may take to tell what is left when the program ends.
const LONGEST_GOODBYE: Duration = Duration::from_secs(1);
/// The largest packet that comes from a broker, bytes: it is asked for words at most.
const LARGEST_INCOMING: usize = 1 << 20;
/// The largest packet that there is in MQTT, bytes.
const LARGEST_OUTGOING: usize = 256 << 20;

/// How a connection ended.
enum End {
    /// All is told, or it takes too long.
    Closed,
    Broken(String),
}

/// Tells the broker what there is to tell until the program ends.
pub(super) async fn run(
    settings: &MqttSettings,
    client_id: &str,
    state: &OutboxState,
    inbox: &Inbox,
    commands: Option<&Commands>,
) {
    let mut backoff = Backoff::new(WAITS.0, WAITS.1);
    let mut goodbye = Goodbye::default();
    let availability = locked(&state.outbox).availability();
    loop {
        let end = match settings.options(client_id, &availability) {
            Ok(options) => {
                Connection::new(options, state, inbox, commands)
                    .serve(settings, &mut backoff, &mut goodbye)
                    .await
            }
            Err(why) => End::Broken(why),
        };
        match end {
            End::Closed => return,
            End::Broken(why) => inbox.failed(&why),
        }
        let until = tokio::time::Instant::now() + network::wait_to_retry(&mut backoff);
        while !goodbye.is_begun(state) && timeout_at(until, state.woken.notified()).await.is_ok() {}
        if goodbye.is_over() {
            return;
        }
    }
}

/// The end of the program, and what is to be done until then.
#[derive(Default)]
struct Goodbye(Option<Instant>);

impl Goodbye {
    fn is_begun(&mut self, state: &OutboxState) -> bool {
        if self.0.is_none() && state.is_closing.load(Ordering::Relaxed) {
            self.0 = Some(Instant::now() + LONGEST_GOODBYE);
        }
        self.0.is_some()
    }

    fn is_over(&self) -> bool {
        self.0.is_some_and(|end| Instant::now() >= end)
    }

    /// When it is over; in a long time where it isn't begun.
    fn end(&self) -> tokio::time::Instant {
        self.0.unwrap_or_else(|| Instant::now() + Duration::from_secs(3_600)).into()
    }
}

struct Connection<'a> {
    client: AsyncClient,
    eventloop: EventLoop,
    state: &'a OutboxState,
    inbox: &'a Inbox,
    commands: Option<&'a Commands>,
    /// What was handed to the client, in order, with the number that it has on the wire as soon as it has one.
    under_way: VecDeque<(What, Option<u16>)>,
    is_connected: bool,
    /// Whether the last word is said.
    has_said_goodbye: bool,
}

impl<'a> Connection<'a> {
    fn new(
        options: MqttOptions,
        state: &'a OutboxState,
        inbox: &'a Inbox,
        commands: Option<&'a Commands>,
    ) -> Self {
        let (client, mut eventloop) = AsyncClient::new(options, WINDOW + 1 + Command::ALL.len());
        eventloop.network_options.set_connection_timeout(LONGEST_ANSWER_S).set_tcp_nodelay(true);
        Self {
            client,
            eventloop,
            state,
            inbox,
            commands,
            under_way: VecDeque::with_capacity(WINDOW),
            is_connected: false,
            has_said_goodbye: false,
        }
    }

    async fn serve(mut self, settings: &MqttSettings, backoff: &mut Backoff, goodbye: &mut Goodbye) -> End {
        let end = loop {
            let is_closing = goodbye.is_begun(self.state);
            if self.is_connected
                && tell(&self.client, &mut self.under_way, self.state, is_closing, &mut self.has_said_goodbye)
            {
                break End::Closed;
            }
            match self.poll(goodbye).await {
                None if goodbye.is_over() => break End::Closed,
                None => {}
                Some(Ok(event)) => self.heard(&event, backoff),
                Some(Err(_)) if self.has_said_goodbye => break End::Closed,
                Some(Err(error)) => break End::Broken(settings.explain(&error, self.is_connected)),
            }
        };
        // What was acknowledged in the breath with which the connection broke: it is heard all the same.
        while let Some(event) = self.eventloop.state.events.pop_front() {
            self.heard(&event, backoff);
        }
        let under_way = self.under_way.drain(..).map(|(what, _)| what);
        locked(&self.state.outbox).disconnected(under_way);
        end
    }

    /// Waits for the next that happens on the wire; `None` when there may be more to tell. Nothing that was begun on the wire
    /// is given up for that.
    async fn poll(&mut self, goodbye: &mut Goodbye) -> Option<Result<Event, ConnectionError>> {
        let (state, client, under_way) = (self.state, &self.client, &mut self.under_way);
        let mut polling = pin!(self.eventloop.poll());
        loop {
            // On an idle connection nothing else happens when the program ends: the last word is said from here.
            let is_closing = goodbye.is_begun(state);
            if self.is_connected && tell(client, under_way, state, is_closing, &mut self.has_said_goodbye) {
                return None;
            }
            tokio::select! {
                polled = &mut polling => return Some(polled),
                () = state.woken.notified() => {}
                () = tokio::time::sleep_until(goodbye.end()) => return None,
            }
        }
    }

    fn heard(&mut self, event: &Event, backoff: &mut Backoff) {
        match event {
            Event::Incoming(Incoming::ConnAck(_)) => {
                self.is_connected = true;
                locked(&self.state.outbox).connected();
                self.subscribe();
            }
            Event::Incoming(Incoming::SubAck(answer))
                if answer.return_codes.contains(&SubscribeReasonCode::Failure) =>
            {
                tracing::error!("the broker lets nobody choose words: it refuses the subscription");
            }
            Event::Incoming(Incoming::Publish(message)) => {
                if let Some(commands) = self.commands {
                    commands.take(&message.topic, &message.payload, message.retain);
                }
            }
            // Ours are handed over in the order in which they go out.
            Event::Outgoing(Outgoing::Publish(0)) => self.arrived(|number| number.is_none()),
            Event::Outgoing(Outgoing::Publish(number)) => {
                if let Some((_, none)) = self.under_way.iter_mut().find(|(_, number)| number.is_none()) {
                    *none = Some(*number);
                }
            }
            Event::Incoming(Incoming::PubAck(acknowledged)) => {
                // Only now: a broker may take a connection, and then nothing that is said on it.
                self.inbox.recovered();
                backoff.reset();
                self.arrived(|number| number == Some(acknowledged.pkid));
            }
            _ => {}
        }
    }

    /// Asks for commands, where words can be chosen. There is room for that beside what may be under way.
    fn subscribe(&self) {
        for topic in self.commands.into_iter().flat_map(Commands::topics) {
            if let Err(error) = self.client.try_subscribe(topic, QoS::AtLeastOnce) {
                tracing::debug!("not subscribed: {error}");
            }
        }
    }

    fn arrived(&mut self, is_it: impl Fn(Option<u16>) -> bool) {
        let Some(place) = self.under_way.iter().position(|(_, number)| is_it(*number)) else { return };
        if let Some((what, _)) = self.under_way.remove(place) {
            let mut outbox = locked(&self.state.outbox);
            let arrived = outbox.arrived(what);
            self.inbox.keeps(outbox.waiting());
            self.inbox.sent(arrived);
        }
    }
}

/// Hands over what there is to tell; whether the last word is said.
fn tell(
    client: &AsyncClient,
    under_way: &mut VecDeque<(What, Option<u16>)>,
    state: &OutboxState,
    is_closing: bool,
    has_said_goodbye: &mut bool,
) -> bool {
    hand(client, under_way, state);
    if !is_closing || !under_way.is_empty() {
        return false;
    }
    let mut outbox = locked(&state.outbox);
    if !outbox.is_empty() {
        return false;
    }
    if std::mem::replace(has_said_goodbye, true) {
        return true;
    }
    outbox.set_availability("offline");
    drop(outbox);
    hand(client, under_way, state);
    false
}

/// Hands over as much as may be under way.
fn hand(client: &AsyncClient, under_way: &mut VecDeque<(What, Option<u16>)>, state: &OutboxState) {
    let mut outbox = locked(&state.outbox);
    while under_way.len() < WINDOW
        && let Some(publication) = outbox.next()
    {
        let Publication { what, topic, payload, is_kept, is_acknowledged } = publication;
        let qos = if is_acknowledged { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        match client.try_publish(topic, qos, is_kept, payload) {
            Ok(()) => under_way.push_back((what, None)),
            // There is room for as many as may be under way, and topics are made to be right.
            Err(error) => tracing::debug!("not published: {error}"),
        }
    }
}

impl MqttSettings {
    /// What a connection is made with. Files are read each time: they may have been exchanged.
    pub(super) fn options(&self, client_id: &str, availability: &str) -> Result<MqttOptions, String> {
        let mut options = MqttOptions::new(client_id, self.address.host.clone(), self.address.port);
        options.set_keep_alive(self.keep_alive);
        options.set_clean_session(true);
        options.set_max_packet_size(LARGEST_INCOMING, LARGEST_OUTGOING);
        options.set_last_will(LastWill::new(availability, "offline", QoS::AtLeastOnce, true));
        if let Some(name) = &self.username {
            let password =
                self.password_file.as_deref().map(|path| network::read_secret("password_file", path));
            options.set_credentials(name, password.transpose()?.unwrap_or_default());
        }
        if self.address.is_secure {
            let configuration = TlsConfiguration::Rustls(std::sync::Arc::new(self.tls()?));
            options.set_transport(Transport::tls_with_config(configuration));
        }
        Ok(options)
    }

    fn tls(&self) -> Result<rustls::ClientConfig, String> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(network::authorities(self.ca_file.as_deref())?);
        let builder = rustls::ClientConfig::builder_with_provider(network::crypto());
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let builder = builder.with_root_certificates(roots);
        let Some((certificate, key)) = &self.client_certificate else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = network::certificates("certificate_file", certificate)?;
        let private = network::private_key("key_file", key)?;
        builder.with_client_auth_cert(chain, private).map_err(|error| {
            format!("certificate_file {} and key_file {}: {error}", certificate.display(), key.display())
        })
    }

    /// What is wrong, for people, and what to do about it.
    fn explain(&self, error: &ConnectionError, was_connected: bool) -> String {
        let server = self.address.server();
        match error {
            ConnectionError::ConnectionRefused(
                ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
            ) => {
                format!("{server} refuses the user name or the password: see `username` and `password_file`")
            }
            ConnectionError::ConnectionRefused(ConnectReturnCode::BadClientId) => {
                format!("{server} refuses the client id: see `client_id`")
            }
            ConnectionError::ConnectionRefused(code) => format!("{server} refuses the connection: {code:?}"),
            ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => {
                format!("{server} doesn't answer within {LONGEST_ANSWER_S} seconds")
            }
            ConnectionError::MqttState(StateError::AwaitPingResp) => format!("{server} is silent"),
            ConnectionError::MqttState(StateError::ConnectionAborted) if was_connected => {
                format!("{server} has closed the connection")
            }
            ConnectionError::MqttState(StateError::ConnectionAborted) => format!(
                "{server} closes the connection at once: is it a broker, and does it speak TLS if and only if the url is \
                 mqtts://?"
            ),
            ConnectionError::Tls(TlsError::Io(error)) | ConnectionError::Io(error)
                if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) =>
            {
                format!(
                    "no TLS with {server}: {error}; the authority that vouches for a certificate of your own is named by \
                     `ca_file`"
                )
            }
            ConnectionError::Io(error) => format!("cannot reach {server}: {error}"),
            error => format!("{server}: {error}"),
        }
    }
}
