//! Fits a machine to the rows of a window.

use super::super::columns::{AT_ONCE, Columns};
use super::super::window::Window;
use super::kernel::Kernel;
use super::machine::{Machine, Vector, pairs};
use super::points::{Lines, Points};
use super::settings::{Gamma, GammaRule, SvmSettings};
use super::solver::{Solution, Solve, Task};
use crate::encode::Scratch;
use crate::simd;

/// The rows of one class, or all of them if there are none.
struct Group {
    /// From which place on they stand among the sorted rows, and how many there are.
    first: usize,
    count: usize,
    /// What each has for a target, and how much it counts.
    targets: Vec<f64>,
    bounds: Vec<f64>,
}

impl Group {
    /// The first places of the blocks that have its rows.
    fn blocks(&self) -> impl Iterator<Item = usize> {
        (self.first..self.first + self.count).step_by(AT_ONCE)
    }

    /// How many places these have.
    fn places(&self) -> usize {
        self.count.next_multiple_of(AT_ONCE)
    }
}

pub(super) struct Fit<'a> {
    settings: &'a SvmSettings,
    kernel: Kernel,
    /// The rows of the window, class by class and the oldest first.
    rows: Columns,
    /// The same as they are compared, if that is not as they are.
    embedded: Option<Columns>,
    groups: Vec<Group>,
}

impl<'a> Fit<'a> {
    /// `counts` are what rows of each class count, and empty for numbers.
    pub fn new(settings: &'a SvmSettings, counts: &[f64], window: &Window, weights: &[f64]) -> Self {
        let all = window.places();
        let class_of = |place: usize| if counts.is_empty() { 0 } else { window.target(place) as usize };
        let mut by_class: Vec<Vec<usize>> = vec![Vec::new(); counts.len().max(1)];
        all.iter().for_each(|place| by_class[class_of(*place)].push(*place));
        let places = by_class.iter().map(|places| places.len().next_multiple_of(AT_ONCE)).sum();
        let mut rows = window.rows().like(places);
        let (mut groups, mut row, mut first) = (Vec::new(), Scratch::default(), 0);
        for (class, places) in by_class.iter().enumerate() {
            for (offset, place) in places.iter().enumerate() {
                window.rows().read(*place, &mut row);
                rows.put(first + offset, row.row());
            }
            let counts = counts.get(class).copied().unwrap_or(1.0);
            groups.push(Group {
                first,
                count: places.len(),
                targets: places.iter().map(|place| window.target(*place)).collect(),
                bounds: places.iter().map(|place| settings.c * counts * weights[*place]).collect(),
            });
            first += places.len().next_multiple_of(AT_ONCE);
        }
        let kernel = settings.kernel(gamma(settings.gamma, window.rows(), &all));
        let embedded = kernel.embed_all(&rows);
        Self { settings, kernel, rows, embedded, groups }
    }

    pub fn run(self) -> Machine {
        let mut vectors: Vec<Vec<Vec<f64>>> = Vec::new();
        let others = self.groups.len().saturating_sub(1).max(1);
        vectors.extend(self.groups.iter().map(|group| vec![vec![0.0; others]; group.count]));
        let mut rhos = vec![0.0; pairs(self.groups.len())];
        if let [all] = &self.groups[..] {
            rhos[0] = self.fit_numbers(all, &mut vectors[0]);
        } else {
            let pairs =
                (0..self.groups.len()).flat_map(|one| (one + 1..self.groups.len()).map(move |other| (one, other)));
            for ((one, other), rho) in pairs.zip(&mut rhos) {
                *rho = self.fit_pair(one, other, &mut vectors);
            }
        }
        let of_group = |(group, coefficients): (&Group, Vec<Vec<f64>>)| -> Vec<Vector> {
            let counts = |of_row: &Vec<f64>| of_row.iter().any(|coefficient| *coefficient != 0.0);
            let rows = coefficients.into_iter().enumerate().filter(|(_, of_row)| counts(of_row));
            rows.map(|(offset, coefficients)| Vector { place: group.first + offset, coefficients }).collect()
        };
        let by_class: Vec<_> = self.groups.iter().zip(vectors).map(of_group).collect();
        Machine::of_vectors(self.kernel, &self.rows, &by_class, rhos)
    }

    /// Finds what the rows of two classes count against each other, and what is subtracted. A class without rows loses by 1.
    fn fit_pair(&self, one: usize, other: usize, vectors: &mut [Vec<Vec<f64>>]) -> f64 {
        let groups = [&self.groups[one], &self.groups[other]];
        let has_rows = groups.map(|group| group.bounds.iter().any(|bound| *bound > 0.0));
        match has_rows {
            [true, true] => {}
            [true, false] => return -1.0,
            [false, true] => return 1.0,
            [false, false] => return 0.0,
        }
        let mut task = self.task(&groups);
        for (group, sign) in groups.into_iter().zip([1.0, -1.0]) {
            task.signs.extend(vec![sign; group.places()]);
            task.linear.extend(vec![-1.0; group.places()]);
            task.bounds.extend(padded(group, &group.bounds));
        }
        let Solution { coefficients, rho } = self.solve(&groups, &task);
        let (of_one, of_other) = coefficients.split_at(groups[0].places());
        for (line, class, found) in [(other - 1, one, of_one), (one, other, of_other)] {
            vectors[class].iter_mut().zip(found).for_each(|(of_row, found)| of_row[line] = *found);
        }
        rho
    }

    /// Finds what rows count for the sum that is nearest to their targets, and what is subtracted.
    fn fit_numbers(&self, all: &Group, vectors: &mut [Vec<f64>]) -> f64 {
        if all.count == 0 {
            return 0.0;
        }
        let mut task = self.task(&[all]);
        let targets: Vec<_> = padded(all, &all.targets).collect();
        for sign in [1.0, -1.0] {
            task.signs.extend(vec![sign; all.places()]);
            task.linear.extend(targets.iter().map(|target| self.settings.epsilon - sign * target));
            task.bounds.extend(padded(all, &all.bounds));
        }
        let Solution { coefficients, rho } = self.solve(&[all], &task);
        let (above, below) = coefficients.split_at(all.places());
        for (of_row, (above, below)) in vectors.iter_mut().zip(above.iter().zip(below)) {
            of_row[0] = above + below;
        }
        rho
    }

    /// What is to be found for the rows of some classes, without variables.
    fn task(&self, groups: &[&Group]) -> Task {
        Task {
            signs: Vec::new(),
            linear: Vec::new(),
            bounds: Vec::new(),
            own: self.points(groups).own(),
            tolerance: self.settings.tol,
            most_steps: self.settings.max_iter,
        }
    }

    fn points(&self, groups: &[&Group]) -> Points<'_> {
        Points {
            kernel: &self.kernel,
            rows: self.embedded.as_ref().unwrap_or(&self.rows),
            blocks: groups.iter().flat_map(|group| group.blocks()).collect(),
        }
    }

    fn solve(&self, groups: &[&Group], task: &Task) -> Solution {
        let points = self.points(groups);
        let lines = Lines::new(&points, self.settings.cache_size.0);
        simd::run(Solve { task, lines })
    }
}

/// The values of the rows of a group, and 0 for its padding.
fn padded<'a>(group: &Group, values: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    let padding = group.places() - values.len();
    values.iter().copied().chain(std::iter::repeat_n(0.0, padding))
}

/// What `gamma` is for these rows.
fn gamma(gamma: Gamma, rows: &Columns, places: &[usize]) -> f64 {
    let features = (rows.numbers() + rows.slots()).max(1) as f64;
    match gamma {
        Gamma::Number(gamma) => gamma,
        Gamma::By(GammaRule::Auto) => 1.0 / features,
        Gamma::By(GammaRule::Scale) => {
            let variance = variance(rows, places);
            if variance > 0.0 { 1.0 / (features * variance) } else { 1.0 }
        }
    }
}

/// The variance of all numbers of all rows, among them a one or zero for each slot.
fn variance(rows: &Columns, places: &[usize]) -> f64 {
    let mut row = Scratch::default();
    let mut over_all = |of: &dyn Fn(f64) -> f64| {
        let mut sum = 0.0;
        for place in places {
            rows.read(*place, &mut row);
            sum += row.numbers.iter().fold(0.0, |sum, number| sum + of(*number));
            let (ones, slots) = (row.slots.len() as f64, rows.slots() as f64);
            sum += ones * of(1.0) + (slots - ones) * of(0.0);
        }
        sum / ((rows.numbers() + rows.slots()) as f64 * places.len() as f64)
    };
    let mean = over_all(&|number| number);
    over_all(&|number| (number - mean) * (number - mean))
}
