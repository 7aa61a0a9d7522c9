use super::classifier::Shares;
use super::regressor::Mean;
use super::*;
use crate::encode::Encoder;
use crate::simd;
use crate::vector::padded;

fn features(numbers: usize, slots: &[u32]) -> Vec<Feature> {
    let feature = |encoder| Feature::new("a", "float64", encoder);
    let categories = slots.iter().map(|slots| feature(Encoder::OneHot(*slots)));
    (0..numbers).map(|_| feature(Encoder::Raw)).chain(categories).collect()
}

fn neighbours<V>(count: u32, rows: u32, features: &[Feature], verdict: V) -> Neighbours<V> {
    Neighbours::new(count, Weights::Distance, rows, features, verdict)
}

fn noise(row: usize, salt: u64) -> f64 {
    let mixed = (row as u64 * 16 + salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed ^ mixed >> 27) as f64 / u64::MAX as f64
}

/// Rows of five numbers, each of few values, so that many are equally far away, and of two categories.
fn row(index: usize) -> ([f64; 8], Vec<u32>) {
    let mut numbers = [0.0; 8];
    (0..5).for_each(|number| numbers[number] = (noise(index, number as u64) * 4.0).floor());
    let first = Some((noise(index, 5) * 4.0) as u32).filter(|slot| *slot < 3);
    (numbers, first.into_iter().chain([3 + (noise(index, 6) * 2.0) as u32]).collect())
}

/// The nearest of the rows before one, found one by one.
fn by_hand(index: usize, window: usize, count: usize) -> Vec<(f64, usize)> {
    let ((numbers, slots), first) = (row(index), index.saturating_sub(window));
    let square = |other: usize| {
        let (others, other_slots) = row(other);
        let of_numbers: f64 = (0..5).map(|number| (others[number] - numbers[number]).powi(2)).sum();
        let own = |slot: &&u32| !other_slots.contains(slot);
        let theirs = |slot: &&u32| !slots.contains(slot);
        of_numbers + (slots.iter().filter(own).count() + other_slots.iter().filter(theirs).count()) as f64
    };
    let mut all: Vec<_> = (first..index).map(|other| (square(other), other - first)).collect();
    all.sort_by(|one, other| one.partial_cmp(other).unwrap());
    all.truncate(count);
    all
}

#[test]
fn the_nearest_are_found_and_the_older_of_equals_first() {
    let features = features(5, &[3, 2]);
    for (window, count) in [(100, 5), (32, 40), (33, 33), (1, 3), (70, 1)] {
        let mut neighbours = neighbours(count, window, &features, Mean);
        for index in 0..250 {
            let (numbers, slots) = row(index);
            let encoded = Row { numbers: &numbers, slots: &slots };
            let mut nearest = Nearest::new(count as usize);
            search::search(&neighbours.window, encoded, &mut nearest);
            let found: Vec<_> = nearest.found().iter().map(|found| (found.square, found.older)).collect();
            assert_eq!(found, by_hand(index, window as usize, count as usize), "row {index} of a window of {window}");
            neighbours.learn_one(encoded, index as f64);
            let oldest = neighbours.window.place(0);
            assert_eq!(neighbours.window.target(oldest), (index + 1).saturating_sub(window as usize) as f64);
        }
    }
}

#[test]
fn rows_that_are_the_same_say_it_alone() {
    let mut neighbours = neighbours(3, 10, &features(1, &[]), Mean);
    let row = |number: f64| [number, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    let predict = |neighbours: &Neighbours<Mean>, number| {
        let mut prediction = [f64::NAN];
        neighbours.predict_one(Row { numbers: &row(number), slots: &[] }, &mut prediction);
        prediction[0]
    };
    assert_eq!(predict(&neighbours, 1.0), 0.0);
    for (number, target) in [(1.0, 10.0), (1.0, 20.0), (3.0, 60.0)] {
        neighbours.learn_one(Row { numbers: &row(number), slots: &[] }, target);
    }
    assert_eq!([predict(&neighbours, 1.0), predict(&neighbours, 2.0)], [15.0, 30.0]);
    neighbours.weights = Weights::Uniform;
    assert_eq!(predict(&neighbours, 1.0), 30.0);
}

#[test]
fn classes_have_the_shares_of_their_neighbours() {
    let conclude = |classes, neighbours: &[(f64, f64)]| {
        let shares = Shares { classes };
        let mut into = vec![f64::NAN; shares.outputs()];
        shares.conclude(neighbours.iter().copied(), &mut into);
        into
    };
    assert_eq!(conclude(3, &[]), [1.0 / 3.0; 3]);
    assert_eq!(conclude(3, &[(2.0, 1.0), (0.0, 2.0), (2.0, 1.0)]), [0.5, 0.0, 0.5]);
    assert_eq!(conclude(2, &[(1.0, 3.0), (0.0, 1.0)]), [0.75]);
}

/// What is saved does not say where in the ring rows were.
#[test]
fn a_window_that_is_read_goes_on_as_the_one_that_was_written() {
    let features = features(5, &[3, 2]);
    let learn = |neighbours: &mut Neighbours<Mean>, rows: std::ops::Range<usize>| {
        for index in rows {
            let (numbers, slots) = row(index);
            neighbours.learn_one(Row { numbers: &numbers, slots: &slots }, index as f64);
        }
    };
    let saved = |neighbours: &Neighbours<Mean>| {
        let mut tensors = Tensors::default();
        ByRow::save(neighbours, &mut tensors);
        tensors
    };
    for rows in [0, 3, 40, 57] {
        let mut own = neighbours(3, 40, &features, Mean);
        learn(&mut own, 0..rows);
        let mut read = neighbours(3, 40, &features, Mean);
        ByRow::load(&mut read, &saved(&own)).unwrap();
        [&mut own, &mut read].into_iter().for_each(|neighbours| learn(neighbours, rows..rows + 30));
        assert!(saved(&own) == saved(&read), "{rows} rows");
    }
    let large = neighbours(3, 41, &features, Mean);
    let mut small = neighbours(3, 40, &features, Mean);
    let mut full = large;
    learn(&mut full, 0..50);
    assert!(ByRow::load(&mut small, &saved(&full)).unwrap_err().to_string().contains("40 are the most"));
}

/// Finding neighbours is the same bits on processors without wide vectors, with numbers that are no whole ones.
#[test]
fn vectors_do_not_matter() {
    struct All<'a>(&'a Neighbours<Mean>);
    impl simd::Work for All<'_> {
        type Output = Vec<u64>;

        #[inline(always)]
        fn run(self) -> Vec<u64> {
            let predict = |index: usize| {
                let (numbers, mut prediction) = (reals(index), [0.0]);
                self.0.predict_one(Row { numbers: &numbers, slots: &[] }, &mut prediction);
                prediction[0].to_bits()
            };
            (300..400).map(predict).collect()
        }
    }
    fn reals(index: usize) -> Vec<f64> {
        (0..padded(13)).map(|number| if number < 13 { noise(index, number as u64) } else { 0.0 }).collect()
    }
    let mut neighbours = neighbours(6, 200, &features(13, &[]), Mean);
    (0..300).for_each(|index| neighbours.learn_one(Row { numbers: &reals(index), slots: &[] }, noise(index, 15)));
    let narrow = simd::tests::without_wide_vectors(|| simd::run(All(&neighbours)));
    assert_eq!(simd::run(All(&neighbours)), narrow);
}
