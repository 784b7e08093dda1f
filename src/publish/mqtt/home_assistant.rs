//! Home Assistant discovery: the messages by which words show up in it by themselves.
//!
//! Makes the configurations of its MQTT discovery (<https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery>):
//! for each word whether something of it is there, and its last snapshot where there are snapshots; numbers of things
//! in zones and across lines; and a text field for the words where they can be chosen. A configuration that is empty
//! takes the entity away.

use serde_json::json;

use super::command::Command;
use super::topics::plain;

/// For so many words at most: who has thousands doesn't want thousands of entities.
pub(super) const MOST_WORDS: usize = 50;

/// What all configurations of a stream have in common.
#[derive(Debug)]
pub(super) struct Discovery {
    /// The first levels of all topics.
    pub prefix: String,
    /// What the stream is called.
    pub stream: String,
    /// The stream's topic.
    pub base: String,
    pub has_snapshots: bool,
    /// Whether words can be chosen.
    pub has_control: bool,
}

impl Discovery {
    /// The topics and contents of the configurations of one word, whose topic has this level.
    pub(super) fn configurations(&self, word: &str, level: &str) -> Vec<(String, Vec<u8>)> {
        let topic = format!("{}/{level}", self.base);
        let sensor = json!({
            "state_topic": topic,
            "value_template": "{{ 'ON' if value | int(0) > 0 else 'OFF' }}",
            "device_class": "occupancy",
        });
        let mut all = vec![self.configuration("binary_sensor", word, level, sensor)];
        if self.has_snapshots {
            let image = json!({ "image_topic": format!("{topic}/snapshot"), "content_type": "image/jpeg" });
            all.push(self.configuration("image", word, level, image));
        }
        all
    }

    /// The topic and content of the text field that the words are typed into, where they can be chosen.
    pub(super) fn text_field(&self) -> Option<(String, Vec<u8>)> {
        let text = json!({
            "state_topic": format!("{}/words", self.base),
            // Home Assistant's states end there.
            "value_template": "{{ (value_json.words | join(', '))[:255] }}",
            "command_topic": Command::Words.topic(&self.base),
            "max": 255,
            "icon": "mdi:text-search",
        });
        self.has_control.then(|| self.configuration("text", "Looking for", "words", text))
    }

    /// The topic and content of the sensor of a number of things in a zone. `level` is where the number stands, and `all`
    /// where all numbers of the zone do.
    pub(super) fn zone_sensor(&self, name: &str, level: &str, all: &str) -> (String, Vec<u8>) {
        let sensor = json!({
            "state_topic": format!("{}/{level}", self.base),
            "json_attributes_topic": format!("{}/{all}", self.base),
            "state_class": "measurement",
            "icon": "mdi:texture-box",
        });
        self.configuration("sensor", name, level, sensor)
    }

    /// The same of how often a line was crossed in a direction.
    pub(super) fn crossing_sensor(&self, name: &str, level: &str) -> (String, Vec<u8>) {
        let sensor = json!({
            "state_topic": format!("{}/{level}", self.base),
            "state_class": "total_increasing",
            "icon": "mdi:swap-horizontal",
        });
        self.configuration("sensor", name, level, sensor)
    }

    fn configuration(
        &self,
        component: &str,
        word: &str,
        level: &str,
        mut own: serde_json::Value,
    ) -> (String, Vec<u8>) {
        // The base and not the stream alone: two devices may call their streams the same, below prefixes of their own.
        let node = plain(&self.base.replace('/', "_"));
        let object = plain(level);
        let common = json!({
            "name": word,
            "unique_id": format!("{node}_{object}_{component}"),
            "availability_topic": format!("{}/availability", self.base),
            "device": {
                "identifiers": [node],
                "name": self.stream,
                "manufacturer": "Wordsight",
                "sw_version": env!("CARGO_PKG_VERSION"),
            },
            "origin": { "name": "Wordsight", "sw_version": env!("CARGO_PKG_VERSION") },
        });
        if let (Some(own), serde_json::Value::Object(common)) = (own.as_object_mut(), common) {
            own.extend(common);
        }
        (format!("{}/{component}/{node}/{object}/config", self.prefix), own.to_string().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_word_is_a_sensor_of_occupancy_and_an_image() {
        let discovery = Discovery {
            prefix: "homeassistant".to_owned(),
            stream: "Front door".to_owned(),
            base: "wordsight/Front_door".to_owned(),
            has_snapshots: true,
            has_control: true,
        };
        let all = discovery.configurations("red car", "red_car");
        let topics: Vec<&str> = all.iter().map(|(topic, _)| topic.as_str()).collect();
        assert_eq!(
            topics,
            [
                "homeassistant/binary_sensor/wordsight_Front_door/red_car/config",
                "homeassistant/image/wordsight_Front_door/red_car/config"
            ]
        );
        let sensor: serde_json::Value = serde_json::from_slice(&all[0].1).unwrap();
        assert_eq!(sensor["name"], "red car");
        assert_eq!(sensor["state_topic"], "wordsight/Front_door/red_car");
        assert_eq!(sensor["availability_topic"], "wordsight/Front_door/availability");
        assert_eq!(sensor["device"]["name"], "Front door");
        let image: serde_json::Value = serde_json::from_slice(&all[1].1).unwrap();
        assert_eq!(image["image_topic"], "wordsight/Front_door/red_car/snapshot");
        assert_ne!(image["unique_id"], sensor["unique_id"]);
        let (topic, text) = discovery.text_field().unwrap();
        let text: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(topic, "homeassistant/text/wordsight_Front_door/words/config");
        assert_eq!(text["command_topic"], "wordsight/Front_door/words/set");
        assert_eq!(text["state_topic"], "wordsight/Front_door/words");
        assert_eq!(Discovery { has_control: false, ..discovery }.text_field(), None);
    }
}
