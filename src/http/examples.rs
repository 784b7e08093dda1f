//! `/api/examples`: a thing in a photograph becomes an example of a word, and is looked for from then on.
//!
//! Takes a photograph, a word and where the thing is, and answers with what is in use then. The stream keeps the
//! region's embedding, and no picture. `GET` lists the examples of each word, `DELETE` forgets a word's.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use serde::Serialize;
use wordsight_teacher::prompts::visible;

use super::answer::{Answer, Refusal, json};
use super::api::ask;
use super::detect::look_at;
use super::photographs::Thing;
use super::state::AppState;
use crate::requests::{ChangeRequest, ExampleCount};

/// The most characters of a word.
const LONGEST_WORD: usize = 100;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shown {
    word: String,
    #[serde(rename = "box")]
    box_in_photograph: Option<String>,
    #[serde(default)]
    negative: bool,
}

impl Shown {
    fn thing(self) -> Result<Thing, Refusal> {
        let box_in_photograph = self.box_in_photograph.map(|sides| box_of(&sides)).transpose()?;
        Ok(Thing { word: word_of(&self.word)?, box_in_photograph, is_negative: self.negative })
    }
}

fn wrong(told: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, told)
}

/// What is well written and comes to nothing.
fn unusable(told: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::CONFLICT, told)
}

fn word_of(text: &str) -> Result<String, Refusal> {
    if text.is_empty() {
        return Err(wrong("`word` is empty: say what the thing is called"));
    }
    if text.chars().count() > LONGEST_WORD {
        return Err(wrong(format!("`word` has {LONGEST_WORD} characters at most")));
    }
    let word = visible(text);
    if word.is_empty() { Err(unusable("`word` has nothing visible")) } else { Ok(word) }
}

fn box_of(sides: &str) -> Result<[f32; 4], Refusal> {
    let numbers: Option<Vec<f32>> = sides.split(',').map(|side| side.trim().parse().ok()).collect();
    let sides = numbers.and_then(|numbers| <[f32; 4]>::try_from(numbers).ok());
    let told = "`box` is left, top, right and bottom in pixels of the photograph, as in `box=120,80,200,180`";
    let sides = sides.filter(|sides| sides.iter().all(|side| side.is_finite()));
    let [left, top, right, bottom] = sides.ok_or_else(|| wrong(told))?;
    let has_area = left < right && top < bottom;
    if has_area {
        Ok([left, top, right, bottom])
    } else {
        Err(unusable(
            "the box has no area: it is left, top, right, bottom in pixels, as in `box=120,80,200,180`",
        ))
    }
}

/// Shows the stream's student an example.
pub(super) async fn add(
    State(state): State<Arc<AppState>>,
    shown: Result<Query<Shown>, QueryRejection>,
    request: Request,
) -> Answer {
    let thing = shown
        .map_err(|error| {
            let told =
                "what is asked for is `word`, `box` and `negative`, as in `?word=mug&box=120,80,200,180`";
            wrong(format!("{}: {told}", error.body_text()))
        })
        .and_then(|Query(shown)| shown.thing());
    let example = look_at(&state, request, thing, |photographs, photograph, thing| {
        photographs.example(photograph, thing)
    })
    .await?;
    ask(state, move |_| Ok(ChangeRequest::AddExamples(example))).await
}

/// Which words have examples, and how many.
pub(super) async fn list(State(state): State<Arc<AppState>>) -> Answer {
    #[derive(Serialize)]
    struct Examples {
        words: Vec<ExampleCount>,
    }
    Ok(json(&Examples { words: state.stream.requests.current().examples }))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfWord {
    word: String,
}

/// Forgets the examples of a word.
pub(super) async fn forget(
    State(state): State<Arc<AppState>>,
    of: Result<Query<OfWord>, QueryRejection>,
) -> Answer {
    let Query(OfWord { word }) =
        of.map_err(|error| wrong(format!("{}: what is asked for is `?word=mug`", error.body_text())))?;
    let word = word_of(&word)?;
    ask(state, move |_| Ok(ChangeRequest::ForgetExamples(word))).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_box_is_four_sides_in_their_order_and_a_word_is_visible() {
        assert_eq!(box_of("1, 2.5,30,40").unwrap(), [1.0, 2.5, 30.0, 40.0]);
        for wrong in ["", "1,2,3", "1,2,3,4,5", "a,2,3,4", "3,2,1,4", "1,4,3,2", "1,2,inf,4", "nan,2,3,4"] {
            assert!(box_of(wrong).is_err(), "{wrong}");
        }
        assert_eq!(word_of(" red cup ").unwrap(), "red cup");
        for wrong in ["", " ", "\u{200b}", &"x".repeat(101)] {
            assert!(word_of(wrong).is_err(), "{wrong:?}");
        }
    }
}
