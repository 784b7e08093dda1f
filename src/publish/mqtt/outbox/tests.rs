//! The outbox with a broker that is connected, away, or has lost its retained messages.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::job::{Detection, Tracked, ZoneOutline, Zones};

fn words_of(words: &[&str]) -> WordList {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn outbox_with(discovery: bool, earlier: &[&str]) -> Outbox {
    let base = "wordsight/door".to_owned();
    let prefix = "homeassistant".to_owned();
    Outbox::new(OutboxSettings {
        frames: false,
        snapshots: true,
        discovery: discovery.then(|| Discovery {
            prefix,
            stream: "door".to_owned(),
            base: base.clone(),
            has_snapshots: false,
            has_control: false,
        }),
        base,
        earlier: earlier.iter().map(|topic| (*topic).to_owned()).collect(),
    })
}

fn frame(words: &WordList) -> Record {
    Record { words: words.clone(), source: "a.mjpeg".into(), ..Record::default() }
}

fn event(words: &WordList, kind: EventKind, track: u64, word: usize) -> Arc<Event> {
    Arc::new(Event::made_up(kind, track, words.clone(), word, 0.9))
}

fn picture(words: &WordList, track: u64, word: usize) -> Message {
    let events = vec![event(words, EventKind::Appeared, track, word)];
    Message::Picture(Arc::new(Picture {
        jpeg: vec![track as u8],
        pixels: None,
        record: Arc::new(frame(words)),
        events,
    }))
}

fn take(outbox: &mut Outbox, message: Message) {
    outbox.take(&message, Instant::now());
}

/// All that there is to tell, as it arrives, one after the other.
fn told(outbox: &mut Outbox) -> Vec<(String, String)> {
    let mut told = Vec::new();
    while let Some(publication) = outbox.next() {
        told.push((publication.topic, String::from_utf8_lossy(&publication.payload).into_owned()));
        outbox.arrived(publication.what);
    }
    told
}

fn of<'a>(told: &'a [(String, String)], topic: &str) -> Vec<&'a str> {
    told.iter().filter(|(of, _)| of == topic).map(|(_, payload)| payload.as_str()).collect()
}

#[test]
fn counts_follow_what_appears_leaves_and_is_called_something_else() {
    let words = words_of(&["cat", "dog"]);
    let mut outbox = outbox_with(false, &[]);
    outbox.connected();
    take(&mut outbox, Message::Frame(Arc::new(frame(&words))));
    let first = told(&mut outbox);
    assert_eq!(first[0], ("wordsight/door/availability".to_owned(), "online".to_owned()));
    assert_eq!(of(&first, "wordsight/door/cat"), ["0"]);
    for track in [1, 2] {
        take(&mut outbox, Message::Event(event(&words, EventKind::Appeared, track, 0)));
    }
    let next = told(&mut outbox);
    assert_eq!((of(&next, "wordsight/door/cat"), of(&next, "wordsight/door/dog")), (vec!["2"], vec![]));
    let track = Some(Tracked { id: 2, word: 1, score: 0.9 });
    let detections = vec![Detection { track, ..found() }];
    take(&mut outbox, Message::Frame(Arc::new(Record { detections, ..frame(&words) })));
    let next = told(&mut outbox);
    assert_eq!((of(&next, "wordsight/door/cat"), of(&next, "wordsight/door/dog")), (vec!["1"], vec!["1"]));
    // By whatever word it leaves.
    take(&mut outbox, Message::Event(event(&words, EventKind::Left, 2, 0)));
    let next = told(&mut outbox);
    assert_eq!((of(&next, "wordsight/door/cat"), of(&next, "wordsight/door/dog")), (vec![], vec!["0"]));
}

fn found() -> Detection {
    Detection { word: 0, score: 0.9, objectness: 0.9, box_in_frame: [0.0; 4], is_weak: false, track: None }
}

#[test]
fn events_go_one_at_a_time_in_order_and_again_when_a_connection_breaks() {
    let words = words_of(&["cat"]);
    let mut outbox = outbox_with(false, &[]);
    told(&mut outbox);
    for track in 1..=3 {
        outbox.take_event(&event(&words, EventKind::Appeared, track, 0));
    }
    let track = |publication: Publication| {
        let event: serde_json::Value = serde_json::from_slice(&publication.payload).unwrap();
        event["track"].as_u64().unwrap()
    };
    assert_eq!(outbox.next().map(track), Some(1));
    assert!(outbox.next().is_none(), "one is under way");
    outbox.arrived(What::Event);
    assert_eq!(outbox.next().map(track), Some(2));
    outbox.disconnected([What::Event].into_iter());
    outbox.connected();
    let events = told(&mut outbox);
    let events: Vec<_> =
        of(&events, "wordsight/door/events").iter().map(|event| event.contains("\"track\":2")).collect();
    assert_eq!(events, [true, false], "the second again, and then the third");
}

#[test]
fn more_events_than_there_is_room_for_lose_the_oldest_but_not_the_one_under_way() {
    let words = words_of(&["cat"]);
    let mut outbox = outbox_with(false, &[]);
    told(&mut outbox);
    outbox.take_event(&event(&words, EventKind::Appeared, 1, 0));
    outbox.next().unwrap();
    for track in 2..=MOST_EVENTS as u64 + 5 {
        outbox.take_event(&event(&words, EventKind::Appeared, track, 0));
    }
    assert_eq!((outbox.waiting(), outbox.take_lost(), outbox.take_lost()), (MOST_EVENTS, 5, 0));
    let tracks: Vec<u64> = outbox.events.iter().take(3).map(|event| event.track).collect();
    assert_eq!(tracks, [1, 7, 8]);
}

#[test]
fn a_broker_that_is_back_is_told_again_what_it_is_to_keep() {
    let words = words_of(&["cat"]);
    let mut outbox = outbox_with(true, &[]);
    take(&mut outbox, Message::Frame(Arc::new(frame(&words))));
    let first = told(&mut outbox);
    assert!(told(&mut outbox).is_empty());
    outbox.disconnected([].into_iter());
    outbox.connected();
    assert_eq!(told(&mut outbox), first);
}

#[test]
fn what_was_kept_of_words_that_are_no_more_goes_also_from_an_earlier_run() {
    let config = "homeassistant/binary_sensor/wordsight_door/cat/config";
    let mut outbox = outbox_with(true, &["wordsight/door/bird", "wordsight/door/dog"]);
    take(&mut outbox, Message::Frame(Arc::new(frame(&words_of(&["cat", "dog"])))));
    let first = told(&mut outbox);
    assert_eq!((of(&first, "wordsight/door/bird"), of(&first, "wordsight/door/dog")), (vec![""], vec!["0"]));
    assert!(of(&first, config)[0].contains("occupancy"));
    assert!(!outbox.take_new_topics().unwrap().contains("wordsight/door/bird"));
    take(&mut outbox, picture(&words_of(&["other"]), 1, 0));
    assert!(told(&mut outbox).is_empty(), "a picture of other words");
    let words = outbox.words.clone();
    take(&mut outbox, picture(&words, 1, 0));
    assert_eq!(of(&told(&mut outbox), "wordsight/door/cat/snapshot").len(), 1);
    take(&mut outbox, Message::Frame(Arc::new(frame(&words_of(&["dog"])))));
    let next = told(&mut outbox);
    for gone in [config, "wordsight/door/cat", "wordsight/door/cat/snapshot"] {
        assert_eq!(of(&next, gone), [""], "{gone}");
    }
    let topics = outbox.take_new_topics().unwrap();
    assert!(!topics.iter().any(|topic| topic.contains("cat")), "{topics:?}");
    // And they may come back.
    take(&mut outbox, Message::Frame(Arc::new(frame(&words_of(&["cat"])))));
    let next = told(&mut outbox);
    assert_eq!((of(&next, "wordsight/door/cat"), of(&next, "wordsight/door/dog")), (vec!["0"], vec![""]));
}

#[test]
fn the_newest_snapshot_of_a_word_waits_and_no_more_than_some() {
    let names: Vec<String> = (0..20).map(|number| format!("word{number}")).collect();
    let words = words_of(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut outbox = outbox_with(false, &[]);
    take(&mut outbox, Message::Frame(Arc::new(frame(&words))));
    told(&mut outbox);
    let words = outbox.words.clone();
    for track in 1..=3 {
        take(&mut outbox, picture(&words, track, 0));
    }
    let told = told(&mut outbox);
    assert_eq!(of(&told, "wordsight/door/word0/snapshot"), ["\u{3}"]);
    for word in 0..20 {
        take(&mut outbox, picture(&words, word as u64, word));
    }
    assert_eq!((outbox.snapshots.len(), outbox.take_lost()), (MOST_SNAPSHOTS, 4));
}

#[test]
fn what_is_in_use_is_told_when_it_is_another_and_a_refusal_until_the_next_command() {
    let mut outbox = outbox_with(false, &["wordsight/door/words"]);
    let in_use = |word: &str, error: Option<&str>| InUse {
        vocabulary: "words".to_owned(),
        words: vec![word.to_owned()],
        total: 1,
        is_as_configured: false,
        is_kept: false,
        error: error.map(str::to_owned),
    };
    let words = |outbox: &mut Outbox| {
        let told = told(outbox);
        of(&told, "wordsight/door/words").into_iter().map(str::to_owned).collect::<Vec<String>>()
    };
    outbox.tell_in_use(&in_use("cat", None), false);
    take(&mut outbox, Message::Frame(Arc::new(frame(&words_of(&["cat"])))));
    assert_eq!(words(&mut outbox), [in_use("cat", None).to_json()]);
    outbox.tell_in_use(&in_use("cat", None), false);
    assert!(words(&mut outbox).is_empty());
    outbox.tell_in_use(&in_use("cat", Some("no teacher")), true);
    outbox.tell_in_use(&in_use("cat", None), false);
    assert_eq!(words(&mut outbox), [in_use("cat", Some("no teacher")).to_json()]);
    outbox.tell_in_use(&in_use("cat", None), true);
    assert_eq!(words(&mut outbox), [in_use("cat", None).to_json()]);
}

#[test]
fn zones_and_lines_have_topics_that_follow_their_counts_and_go_with_them() {
    let words = words_of(&["cat", "dog"]);
    let zones = Arc::new(Zones::made_up());
    let earlier = ["wordsight/door/zones/yard/count", "wordsight/door/zones/old/count"];
    let mut outbox = outbox_with(true, &earlier);
    let shown = |zones: Option<&Arc<Zones>>, words: &WordList| {
        Message::Frame(Arc::new(Record { zones: zones.cloned(), ..frame(words) }))
    };
    take(&mut outbox, shown(Some(&zones), &words));
    let first = told(&mut outbox);
    assert_eq!(of(&first, "wordsight/door/zones/yard/count"), ["0"]);
    assert_eq!(of(&first, "wordsight/door/zones/old/count"), [""], "of an earlier run");
    assert_eq!(of(&first, "wordsight/door/lines/gate/in"), ["0"]);
    let sensors: Vec<&str> = first
        .iter()
        .filter(|(topic, _)| topic.starts_with("homeassistant/sensor/"))
        .map(|(_, payload)| payload.as_str())
        .collect();
    assert_eq!(sensors.len(), 3, "{sensors:?}");
    for (name, topic) in
        [("yard", "zones/yard/count"), ("gate in", "lines/gate/in"), ("gate out", "lines/gate/out")]
    {
        let is_it = |sensor: &&&str| {
            let sensor: serde_json::Value = serde_json::from_str(sensor).unwrap();
            sensor["name"] == name && sensor["state_topic"] == format!("wordsight/door/{topic}")
        };
        assert_eq!(sensors.iter().filter(is_it).count(), 1, "{name} in {sensors:?}");
    }
    zones.entered(0, "cat", 0);
    zones.entered(0, "count", 0);
    zones.crossed(0, true, "cat", 0);
    take(&mut outbox, shown(Some(&zones), &words));
    let next = told(&mut outbox);
    assert_eq!(of(&next, "wordsight/door/zones/yard/count"), ["2"]);
    assert_eq!(of(&next, "wordsight/door/zones/yard/entered"), ["2"]);
    assert_eq!(of(&next, "wordsight/door/zones/yard/cat"), ["1"]);
    assert_eq!(of(&next, "wordsight/door/zones/yard/count-2"), ["1"], "a word of that name");
    assert_eq!(of(&next, "wordsight/door/lines/gate/in"), ["1"]);
    assert_eq!(of(&next, "wordsight/door/lines/gate/out"), Vec::<&str>::new(), "it is as it was");
    let all: serde_json::Value = serde_json::from_str(of(&next, "wordsight/door/zones/yard")[0]).unwrap();
    assert_eq!((&all["now"], &all["words"]["cat"]["entered"]), (&2.into(), &1.into()));
    // Other words leave them, and other zones don't.
    take(&mut outbox, shown(Some(&zones), &words_of(&["dog"])));
    assert!(told(&mut outbox).iter().all(|(topic, _)| !topic.contains("/zones/")), "they stay");
    assert!(outbox.take_new_topics().unwrap().contains("wordsight/door/zones/yard/count"));
    let words = outbox.words.clone();
    take(&mut outbox, shown(None, &words));
    let last = told(&mut outbox);
    for gone in ["zones/yard", "zones/yard/cat", "zones/yard/entered", "lines/gate", "lines/gate/in"] {
        assert_eq!(of(&last, &format!("wordsight/door/{gone}")), [""], "{gone}");
    }
    assert_eq!(
        last.iter().filter(|(topic, payload)| topic.contains("/sensor/") && payload.is_empty()).count(),
        3
    );
}

#[test]
fn home_assistant_is_told_of_no_more_zones_than_anybody_wants() {
    let zone = |number: usize| ZoneOutline {
        name: format!("zone {number}").into(),
        points: Vec::new(),
        words: vec!["cat".to_owned(), "dog".to_owned()],
    };
    let zones = Arc::new(Zones::new((0..40).map(zone).collect(), Vec::new(), &Zones::default()));
    let mut outbox = outbox_with(true, &[]);
    take(&mut outbox, Message::Frame(Arc::new(Record { zones: Some(zones), ..frame(&words_of(&["cat"])) })));
    let told = told(&mut outbox);
    let sensors = told.iter().filter(|(topic, _)| topic.starts_with("homeassistant/sensor/"));
    assert_eq!(sensors.count(), 50);
    assert_eq!(of(&told, "wordsight/door/zones/zone_39/dog"), ["0"]);
}
