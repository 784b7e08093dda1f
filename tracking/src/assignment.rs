//! Optimal assignment: pairs rows with columns so that the sum of the gains is largest.
//!
//! Takes a matrix of gains and returns for each row its column or none. Shortest augmenting paths with potentials (the
//! Hungarian method as Jonker and Volgenant run it, "A Shortest Augmenting Path Algorithm for Dense and Sparse Linear
//! Assignment Problems", 1987): rows² · columns steps, a few microseconds for a frame.
//!
//! A pair with a gain of 0 is not made.

/// Assigns, and keeps its buffers: nothing is allocated for a problem no larger than one before.
#[derive(Debug, Clone, Default)]
pub struct Assigner {
    /// Dual variables of rows and columns; each has a first one for "unassigned".
    row_potentials: Vec<f64>,
    column_potentials: Vec<f64>,
    /// For each column its row, from 1; 0: none. The first stands for the row that looks for one.
    row_of: Vec<usize>,
    /// For each column the one before it on the shortest path, its distance, and whether the path has passed it.
    before: Vec<usize>,
    distances: Vec<f64>,
    is_passed: Vec<bool>,
    column_of: Vec<Option<usize>>,
}

impl Assigner {
    /// With room for so many rows and columns.
    pub fn with_room_for(most: usize) -> Self {
        // The first is for "unassigned".
        let with_first = most + 1;
        Self {
            row_potentials: Vec::with_capacity(with_first),
            column_potentials: Vec::with_capacity(with_first),
            row_of: Vec::with_capacity(with_first),
            before: Vec::with_capacity(with_first),
            distances: Vec::with_capacity(with_first),
            is_passed: Vec::with_capacity(with_first),
            column_of: Vec::with_capacity(most),
        }
    }

    /// For each row the column that it goes with, so that the sum of gains is greatest; no column goes with two rows.
    ///
    /// `gain`: of a row with a column, finite and not negative; who gains 0 is not paired.
    pub fn assign(
        &mut self,
        rows: usize,
        columns: usize,
        gain: impl Fn(usize, usize) -> f64,
    ) -> &[Option<usize>] {
        self.column_of.clear();
        self.column_of.resize(rows, None);
        // A path ends at a free column, so there must be as many columns as rows: otherwise they change places.
        if rows <= columns {
            self.solve(rows, columns, |row, column| -gain(row, column));
        } else {
            self.solve(columns, rows, |row, column| -gain(column, row));
        }
        for (column, row) in self.row_of.iter().enumerate().skip(1).filter(|(_, row)| **row > 0) {
            let (row, column) = if rows <= columns { (row - 1, column - 1) } else { (column - 1, row - 1) };
            if gain(row, column) > 0.0 {
                self.column_of[row] = Some(column);
            }
        }
        &self.column_of
    }

    /// Gives every row a column at least cost; `rows` are not more than `columns`.
    fn solve(&mut self, rows: usize, columns: usize, cost: impl Fn(usize, usize) -> f64) {
        refill(&mut self.row_potentials, rows + 1, 0.0);
        refill(&mut self.column_potentials, columns + 1, 0.0);
        refill(&mut self.row_of, columns + 1, 0);
        refill(&mut self.before, columns + 1, 0);
        for row in 1..=rows {
            self.row_of[0] = row;
            let mut end = self.shortest_path(columns, &cost);
            while end != 0 {
                let before = self.before[end];
                self.row_of[end] = self.row_of[before];
                end = before;
            }
        }
    }

    /// The free column where the shortest path from the row that looks for one ends; adjusts the potentials to it.
    fn shortest_path(&mut self, columns: usize, cost: impl Fn(usize, usize) -> f64) -> usize {
        refill(&mut self.distances, columns + 1, f64::INFINITY);
        refill(&mut self.is_passed, columns + 1, false);
        let mut at = 0;
        loop {
            self.is_passed[at] = true;
            let row = self.row_of[at];
            let (mut nearest, mut least) = (0, f64::INFINITY);
            for column in (1..=columns).filter(|column| !self.is_passed[*column]) {
                let reduced =
                    cost(row - 1, column - 1) - self.row_potentials[row] - self.column_potentials[column];
                if reduced < self.distances[column] {
                    (self.distances[column], self.before[column]) = (reduced, at);
                }
                if self.distances[column] < least {
                    (least, nearest) = (self.distances[column], column);
                }
            }
            for column in 0..=columns {
                if self.is_passed[column] {
                    self.row_potentials[self.row_of[column]] += least;
                    self.column_potentials[column] -= least;
                } else {
                    self.distances[column] -= least;
                }
            }
            at = nearest;
            if self.row_of[at] == 0 {
                return at;
            }
        }
    }
}

fn refill<T: Clone>(values: &mut Vec<T>, length: usize, value: T) {
    values.clear();
    values.resize(length, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(gains: &[&[f64]]) -> Vec<Option<usize>> {
        let columns = gains.first().map_or(0, |row| row.len());
        Assigner::default().assign(gains.len(), columns, |row, column| gains[row][column]).to_vec()
    }

    #[test]
    fn the_best_sum_goes_before_the_best_pair() {
        assert_eq!(assigned(&[&[0.9, 0.8], &[0.8, 0.1]]), [Some(1), Some(0)]);
    }

    #[test]
    fn who_gains_nothing_is_not_paired_and_nobody_to_pair_is_no_error() {
        assert_eq!(assigned(&[&[0.0, 0.5], &[0.0, 0.4]]), [Some(1), None]);
        assert_eq!(assigned(&[&[], &[]]), [None, None]);
        assert_eq!(assigned(&[]), []);
    }

    #[test]
    fn no_other_assignment_gains_more() {
        let mut state = 7_u64;
        let mut number = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as f64 / (1_u64 << 31) as f64
        };
        let mut assigner = Assigner::default();
        for (rows, columns) in [(1, 1), (2, 5), (5, 2), (4, 4), (6, 5)] {
            for _ in 0..50 {
                // A third of the pairs can't be, and many gains are equal.
                let gains: Vec<f64> =
                    (0..rows * columns).map(|_| ((number() * 15.0).floor() - 5.0).max(0.0)).collect();
                let gain = |row: usize, column: usize| gains[row * columns + column];
                let found = assigner.assign(rows, columns, gain);
                let sum: f64 =
                    found.iter().enumerate().filter_map(|(row, column)| Some(gain(row, (*column)?))).sum();
                let mut taken: Vec<usize> = found.iter().flatten().copied().collect();
                taken.sort_unstable();
                taken.dedup();
                assert_eq!(taken.len(), found.iter().flatten().count());
                assert_eq!(sum, best_by_trying(rows, columns, &gain, 0, &mut vec![false; columns]));
            }
        }
    }

    fn best_by_trying(
        rows: usize,
        columns: usize,
        gain: &impl Fn(usize, usize) -> f64,
        row: usize,
        taken: &mut Vec<bool>,
    ) -> f64 {
        if row == rows {
            return 0.0;
        }
        let mut best = best_by_trying(rows, columns, gain, row + 1, taken);
        for column in 0..columns {
            if !taken[column] {
                taken[column] = true;
                best = best.max(gain(row, column) + best_by_trying(rows, columns, gain, row + 1, taken));
                taken[column] = false;
            }
        }
        best
    }
}
