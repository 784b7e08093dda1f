//! Chooses the word of a track whose detections have several.
//!
//! Takes a track's observations and returns one word that doesn't flicker. Every observation votes for its word with
//! its score. Votes fade with time, and a word replaces another only with clearly more votes.
//!
//! A track that gets the same other word several times in a row with high scores drops its old votes faster. Fading
//! alone would keep a track's old word for as long as it takes half of the votes to fade, even after a cut, when
//! something else is in the same place. This counts frames and not seconds: three confident contradictions in a row
//! are no flicker.

/// How many words of an object are remembered; the weakest goes.
const WORDS: usize = 8;
/// A word replaces another when it has so many times its votes.
const CLEARLY_MORE: f32 = 2.0;
/// From so many contradictions in a row on, each halves the votes for other words.
const INSISTING: u32 = 3;
/// A contradiction is sure that has at least this share of the score of what it contradicts.
const SURE: f32 = 0.8;

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    word: usize,
    /// Sum of scores and number of votes, both faded.
    score_sum: f32,
    count: f32,
}

/// The votes on one object's word.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Votes {
    tallies: [Tally; WORDS],
    /// The place of the word that the object has.
    elected: usize,
    /// The last observation's word, and how often in a row it had a high score.
    last: usize,
    insisted: u32,
}

impl Votes {
    pub(crate) fn new(word: usize, score: f32) -> Self {
        let mut tallies = [Tally::default(); WORDS];
        tallies[0] = Tally { word, score_sum: score, count: 1.0 };
        Self { tallies, elected: 0, last: word, insisted: 1 }
    }

    /// Takes in an observation; `kept`: the share of its weight that an older vote keeps since the one before, 0 to 1.
    pub(crate) fn cast(&mut self, word: usize, score: f32, kept: f32) {
        self.fade(kept, None);
        let is_sure = score >= SURE * self.score();
        self.insisted = if !is_sure { 0 } else { 1 + if word == self.last { self.insisted } else { 0 } };
        self.last = word;
        if word != self.word() && self.insisted > INSISTING {
            self.fade(0.5, Some(word));
        }
        let place = self.place_for(word);
        self.tallies[place].score_sum += score;
        self.tallies[place].count += 1.0;
        if self.tallies[place].score_sum > CLEARLY_MORE * self.tallies[self.elected].score_sum {
            self.elected = place;
        }
    }

    /// The object's word.
    pub(crate) fn word(&self) -> usize {
        self.tallies[self.elected].word
    }

    /// The mean score of the observations with it.
    pub(crate) fn score(&self) -> f32 {
        let Tally { score_sum, count, .. } = self.tallies[self.elected];
        if count > 0.0 { score_sum / count } else { 0.0 }
    }

    /// How usual a word is for this object: its votes in those of the object's word, 0 to 1.
    pub(crate) fn share(&self, word: usize) -> f32 {
        if word == self.word() {
            return 1.0;
        }
        let of_elected = self.tallies[self.elected].score_sum;
        let tally = self.tallies.iter().find(|tally| tally.word == word && tally.count > 0.0);
        tally
            .map_or(0.0, |tally| if of_elected > 0.0 { (tally.score_sum / of_elected).min(1.0) } else { 1.0 })
    }

    /// Takes weight from all votes, but those for one word.
    fn fade(&mut self, kept: f32, except: Option<usize>) {
        for tally in self.tallies.iter_mut().filter(|tally| Some(tally.word) != except) {
            // What has all but faded counts no more, and costs no denormal numbers.
            let kept = if tally.count > 1e-6 { kept } else { 0.0 };
            tally.score_sum *= kept;
            tally.count *= kept;
        }
    }

    /// The word's place; a new word takes that of the weakest other than the object's own.
    fn place_for(&mut self, word: usize) -> usize {
        let known = self.tallies.iter().position(|tally| tally.word == word && tally.count > 0.0);
        known.unwrap_or_else(|| {
            let others = (0..WORDS).filter(|place| *place != self.elected);
            let weakest = |a: &usize, b: &usize| self.tallies[*a].count.total_cmp(&self.tallies[*b].count);
            let place = others.min_by(weakest).unwrap_or(self.elected);
            self.tallies[place] = Tally { word, ..Tally::default() };
            place
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast(votes: &mut Votes, times: usize, word: usize, score: f32) {
        (0..times).for_each(|_| votes.cast(word, score, 0.98));
    }

    #[test]
    fn surer_observations_weigh_more() {
        let mut votes = Votes::new(1, 0.3);
        for _ in 0..20 {
            votes.cast(2, 0.9, 0.98);
            votes.cast(1, 0.3, 0.98);
        }
        assert_eq!(votes.word(), 2);
        assert!((votes.score() - 0.9).abs() < 1e-4);
    }

    #[test]
    fn the_score_follows_the_words_own_observations() {
        let mut votes = Votes::new(1, 0.8);
        cast(&mut votes, 100, 1, 0.8);
        cast(&mut votes, 2, 2, 0.3);
        assert!((votes.score() - 0.8).abs() < 1e-4, "another word's score is not its own");
        cast(&mut votes, 200, 1, 0.4);
        assert!((votes.score() - 0.4).abs() < 0.02);
    }

    #[test]
    fn an_unsure_word_does_not_insist_and_a_sure_one_does() {
        for (score, insists) in [(0.3, false), (0.6, true)] {
            let mut votes = Votes::new(1, 0.6);
            cast(&mut votes, 300, 1, 0.6);
            cast(&mut votes, 8, 2, score);
            assert_eq!(votes.word() == 2, insists);
        }
    }

    #[test]
    fn a_word_is_as_usual_as_its_votes_in_those_of_the_things_word() {
        let mut votes = Votes::new(1, 0.5);
        for _ in 0..50 {
            cast(&mut votes, 2, 1, 0.5);
            cast(&mut votes, 1, 2, 0.5);
        }
        assert_eq!(votes.share(1), 1.0);
        assert!((0.4..0.6).contains(&votes.share(2)), "{}", votes.share(2));
        assert_eq!(votes.share(9), 0.0);
    }

    #[test]
    fn more_words_than_there_is_room_for_cost_the_weakest_and_never_the_things_own() {
        let mut votes = Votes::new(0, 0.9);
        cast(&mut votes, 30, 0, 0.9);
        for word in 1..100 {
            cast(&mut votes, 1, word, 0.3);
            assert_eq!(votes.word(), 0);
        }
        assert!(votes.share(99) > 0.0 && votes.share(50) == 0.0);
    }

    #[test]
    fn votes_of_no_score_and_votes_long_faded_leave_the_word_as_it_is() {
        let mut votes = Votes::new(1, 0.0);
        votes.cast(2, 0.0, 0.0);
        votes.cast(2, 0.0, 0.0);
        assert_eq!((votes.word(), votes.score()), (1, 0.0));
        votes.cast(2, 0.4, 0.5);
        assert_eq!(votes.word(), 2);
    }
}
