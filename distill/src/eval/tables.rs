//! Rows of figures as tables for people, in percent.

use wordsight_evaluation::Summary;

use super::annotated::Row;

/// A share as a percentage with one digit.
pub fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1}", 100.0 * share))
}

/// A row's recall of proposals, and by size.
fn recall(row: &Row) -> String {
    let [small, medium, large] = row.proposal_recall_by_size.map(percent);
    format!("{} ({small}/{medium}/{large})", percent(row.proposal_recall))
}

/// The rows as a table for people, in percent.
pub fn table(rows: &[Row]) -> String {
    let frequencies = rows.iter().any(|row| row.all.ap_rare.is_some() || row.all.ap_frequent.is_some());
    let recall_names: Vec<&String> = rows.first().map_or(Vec::new(), |row| row.all.ar.keys().collect());
    let mut heading: Vec<String> =
        ["", "images", "AP", "AP50", "AP75", "APs", "APm", "APl"].map(str::to_owned).to_vec();
    heading.extend(recall_names.iter().map(|name| (*name).clone()));
    if frequencies {
        heading.extend(["APr", "APc", "APf"].map(str::to_owned));
    }
    heading.extend(["base AP50", "novel AP50", "AR@100 any (s/m/l)", "ms"].map(str::to_owned));
    let mut lines = vec![heading];
    for row in rows {
        let all = &row.all;
        let mut line = vec![row.who.clone(), row.images.to_string()];
        line.extend([all.ap, all.ap50, all.ap75, all.ap_small, all.ap_medium, all.ap_large].map(percent));
        line.extend(recall_names.iter().map(|name| percent(all.ar.get(*name).copied().flatten())));
        if frequencies {
            line.extend([all.ap_rare, all.ap_common, all.ap_frequent].map(percent));
        }
        let ap50 = |part: &Option<Summary>| percent(part.as_ref().and_then(|part| part.ap50));
        line.extend([ap50(&row.base), ap50(&row.novel), recall(row)]);
        line.push(format!("{:.1}", row.milliseconds));
        lines.push(line);
    }
    aligned(&lines)
}

/// The rows' figures of some words, a line for each word and each row whose set has objects of it.
pub fn word_table(rows: &[Row], words: &[String]) -> String {
    let mut lines = vec![["word", "", "objects", "AP", "AP50", "AR"].map(str::to_owned).to_vec()];
    for word in words {
        let found = rows.iter().filter_map(|row| Some((row, row.words.get(word)?)));
        let before = lines.len();
        lines.extend(found.map(|(row, figures)| {
            let shares = [figures.ap, figures.ap50, figures.ar].map(|share| percent(Some(share)));
            [vec![word.clone(), row.who.clone(), figures.objects.to_string()], shares.to_vec()].concat()
        }));
        if lines.len() == before {
            lines.push([word, "", "0", "-", "-", "-"].map(str::to_owned).to_vec());
        }
    }
    aligned(&lines)
}

/// Cells as text: the first column to the left, the others to the right.
pub fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in lines {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let gap = " ".repeat(width - cell.chars().count());
            text += &if column == 0 { format!("{cell}{gap}") } else { format!("  {gap}{cell}") };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use wordsight_evaluation::{Dataset, Protocol, evaluate};

    use super::*;
    use crate::eval::annotated::WordFigures;

    #[test]
    fn a_word_has_a_line_for_each_set_that_has_objects_of_it_and_one_where_none_has() {
        let summary = evaluate(&Dataset::default(), &[], &Protocol::coco()).summary();
        let row = |who: &str, word: &str| Row {
            who: who.to_owned(),
            images: 1,
            all: summary.clone(),
            base: None,
            novel: None,
            proposal_recall: Some(0.5),
            proposal_recall_by_size: [None, Some(0.25), Some(1.0)],
            milliseconds: 0.0,
            words: BTreeMap::from([(
                word.to_owned(),
                WordFigures { objects: 7, ap: 0.5, ap50: 0.75, ar: 1.0 },
            )]),
        };
        let rows = [row("coco", "person"), row("voc", "person"), row("kitchen", "apple")];
        let text = word_table(&rows, &["person", "lamp"].map(str::to_owned));
        let cells: Vec<Vec<&str>> =
            text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            cells,
            [
                vec!["person", "coco", "7", "50.0", "75.0", "100.0"],
                vec!["person", "voc", "7", "50.0", "75.0", "100.0"],
                vec!["lamp", "0", "-", "-", "-"],
            ]
        );
        assert!(table(&rows).contains("50.0 (-/25.0/100.0)"), "recall by size:\n{}", table(&rows));
    }
}
