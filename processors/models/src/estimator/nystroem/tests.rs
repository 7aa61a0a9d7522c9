use super::super::mapped::Map;
use super::*;
use crate::encode::Scratch;
use crate::tensors::Tensors;
use crate::vector::padded;

const ROWS: [[f64; 3]; 5] = [[0.1, -0.2, 0.3], [1.5, 0.0, -0.5], [0.4, 0.9, -1.1], [-0.7, 0.2, 0.6], [0.0, -1.3, 0.8]];

fn row(numbers: &[f64], slots: &[u32]) -> Scratch {
    let mut row = Scratch { numbers: numbers.to_vec(), slots: slots.to_vec() };
    row.numbers.resize(padded(numbers.len()), 0.0);
    row
}

fn of(landmarks: &Landmarks, row: &Scratch) -> Vec<f64> {
    let mut into = vec![0.0; landmarks.stride()];
    landmarks.components(row, &mut into);
    into.truncate(landmarks.count());
    into
}

fn learned(after: u64, slots: usize, rows: &[Scratch]) -> Landmarks {
    let mut landmarks = Landmarks::new(0.4, 5, after, Shape { numbers: 3, width: 8, slots, classes: 0 });
    rows.iter().for_each(|row| landmarks.learn(row));
    landmarks
}

/// scikit-learn 1.9.1's `Nystroem(kernel="rbf", gamma=0.4, n_components=5)`, fitted to these five rows, with its columns in their order.
#[test]
fn components_are_those_of_scikit_learn() {
    let mut rows = vec![row(&[9.0, 9.0, 9.0], &[])];
    rows.extend(ROWS.iter().flat_map(|numbers| [row(numbers, &[]), row(&ROWS[0], &[])]));
    let landmarks = learned(1, 0, &rows);
    let wanted = [
        (
            [0.2, 0.1, 0.0],
            [0.818_950_098_624, 0.263_333_553_613_5, 0.312_109_794_656, 0.316_518_454_823_9, 0.079_038_653_453_8],
        ),
        (
            [-2.0, 1.0, 0.5],
            [-0.091_926_940_895_8, 0.014_831_178_242_9, 0.015_974_626_432_9, 0.463_581_779_684_1, -0.007_485_301_084_7],
        ),
        (
            [1.5, 0.0, -0.5],
            [0.172_566_109_037_96, 0.966_330_639_445_6, 0.188_405_194_408_8, 0.004_516_159_757_2, 0.030_151_621_863_3],
        ),
    ];
    for (numbers, wanted) in wanted {
        let found = of(&landmarks, &row(&numbers, &[]));
        assert!(found.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-12), "{found:?}");
    }
}

#[test]
fn products_between_landmarks_are_their_kernels_also_of_categories() {
    let rows: Vec<_> = ROWS.iter().zip([0, 1, 1, 2, 0]).map(|(numbers, slot)| row(numbers, &[slot])).collect();
    let landmarks = learned(0, 3, &rows);
    for (one, [own, other]) in
        [[0, 1], [1, 2], [0, 4], [3, 3]].iter().map(|pair| (pair, pair.map(|at| of(&landmarks, &rows[at]))))
    {
        let product: f64 = own.iter().zip(&other).map(|(own, other)| own * other).sum();
        let [first, second] = one.map(|at| &rows[at]);
        let square: f64 = first.numbers.iter().zip(&second.numbers).map(|(a, b)| (a - b) * (a - b)).sum();
        let of_slots = if first.slots == second.slots { 0.0 } else { 2.0 };
        assert!((product - libm::exp(-0.4 * (square + of_slots))).abs() < 1e-12, "{one:?}: {product}");
    }
}

#[test]
fn without_all_landmarks_there_are_no_components_and_damaged_ones_are_refused() {
    let rows: Vec<_> = ROWS.iter().map(|numbers| row(numbers, &[1])).collect();
    let landmarks = learned(1, 2, &rows);
    assert_eq!(of(&landmarks, &rows[2]), [0.0; 5]);
    let mut good = Tensors::default();
    learned(0, 2, &rows).save(&mut good);
    let mut loaded = learned(0, 2, &[]);
    loaded.load(&good).unwrap();
    assert_eq!(of(&loaded, &rows[2]), of(&learned(0, 2, &rows), &rows[2]));
    let damages: [&dyn Fn(&mut Tensors); 3] = [
        &|tensors| tensors.put_u32("estimator.landmarks.slots", &[5], &[7; 5]),
        &|tensors| tensors.put_u32("estimator.landmarks.lengths", &[5], &[9; 5]),
        &|tensors| {
            tensors.put_u32("estimator.landmarks.lengths", &[6], &[0; 6]);
            tensors.put_f64("estimator.landmarks.numbers", &[6, 3], &[0.0; 18]);
        },
    ];
    for damage in damages {
        let mut tensors = good.clone();
        damage(&mut tensors);
        assert!(learned(0, 2, &[]).load(&tensors).unwrap_err().to_string().contains("damaged"));
    }
}

#[test]
fn what_is_wrong_is_said_at_its_place() {
    let classes = [false, true].map(Class::Boolean);
    let refused =
        |table: serde_json::Value| serde_json::from_value::<Nystroem>(table).unwrap().check(&classes).unwrap_err();
    let logistic = serde_json::json!({ "type": "logistic_regression" });
    assert!(refused(serde_json::json!({ "estimator": logistic, "gamma": 0 })).message.contains("`gamma` is 0"));
    let many = refused(serde_json::json!({ "estimator": logistic, "n_components": 501 }));
    assert!(many.message.contains("`n_components` is 501"));
}
