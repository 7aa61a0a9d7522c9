//! Symmetric matrices by their eigenvalues.

/// A smaller share of the sum of all squares off the diagonal is nothing.
const NOTHING: f64 = 1e-30;

/// The most sweeps; ten are usual.
const SWEEPS: usize = 60;

/// The eigenvalues of a symmetric matrix of so many rows, and by eigenvalue its vector, by Jacobi's method: each pair of rows and columns is turned so that
/// nothing is left where they cross, again and again (Golub & Van Loan, "Matrix Computations", section 8.5).
pub(super) fn eigen(mut matrix: Vec<f64>, count: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors = vec![0.0; count * count];
    (0..count).for_each(|at| vectors[at * count + at] = 1.0);
    let all: f64 = matrix.iter().map(|number| number * number).sum();
    for _ in 0..SWEEPS {
        if off_diagonal(&matrix, count) <= NOTHING * all {
            break;
        }
        for low in 0..count {
            for high in low + 1..count {
                turn(&mut matrix, &mut vectors, count, low, high);
            }
        }
    }
    (matrix.iter().step_by(count + 1).copied().collect(), vectors)
}

/// The sum of the squares of what is not on the diagonal.
fn off_diagonal(matrix: &[f64], count: usize) -> f64 {
    let of_row = |row: usize| (0..count).filter(move |column| *column != row).map(move |column| row * count + column);
    (0..count).flat_map(of_row).map(|at| matrix[at] * matrix[at]).sum()
}

/// Turns two rows and the columns of the same numbers, so that 0 is where they cross.
fn turn(matrix: &mut [f64], vectors: &mut [f64], count: usize, low: usize, high: usize) {
    let crossing = matrix[low * count + high];
    if crossing == 0.0 {
        return;
    }
    let theta = (matrix[high * count + high] - matrix[low * count + low]) / (2.0 * crossing);
    let tangent = if theta == 0.0 { 1.0 } else { theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt()) };
    let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
    let sine = tangent * cosine;
    for row in 0..count {
        let [left, right] = [row * count + low, row * count + high];
        (matrix[left], matrix[right]) =
            (cosine * matrix[left] - sine * matrix[right], sine * matrix[left] + cosine * matrix[right]);
    }
    for numbers in [matrix, vectors] {
        for column in 0..count {
            let [upper, lower] = [low * count + column, high * count + column];
            (numbers[upper], numbers[lower]) =
                (cosine * numbers[upper] - sine * numbers[lower], sine * numbers[upper] + cosine * numbers[lower]);
        }
    }
}

/// The power of -1/2 of a symmetric matrix without negative eigenvalues; those below `least` are taken for that.
pub(super) fn inverse_root(matrix: Vec<f64>, count: usize, least: f64) -> Vec<f64> {
    let (values, vectors) = eigen(matrix, count);
    let mut root = vec![0.0; count * count];
    for (value, vector) in values.iter().zip(vectors.chunks_exact(count)) {
        let factor = 1.0 / value.max(least).sqrt();
        for (row, own) in root.chunks_exact_mut(count).zip(vector) {
            row.iter_mut().zip(vector).for_each(|(sum, other)| *sum += factor * own * other);
        }
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(left: &[f64], right: &[f64], count: usize) -> Vec<f64> {
        let at =
            |at: usize| (0..count).map(|step| left[at / count * count + step] * right[step * count + at % count]).sum();
        (0..count * count).map(at).collect()
    }

    fn is_near(found: &[f64], wanted: &[f64], by: f64) -> bool {
        found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < by)
    }

    /// A matrix whose entries fall off from its diagonal: `exp(-|i - j|² / 40)`, of which the smallest eigenvalues are next to 0.
    fn kernel(count: usize) -> Vec<f64> {
        let at = |at: usize| (at / count).abs_diff(at % count) as f64;
        (0..count * count).map(|place| libm::exp(-at(place) * at(place) / 40.0)).collect()
    }

    #[test]
    fn a_matrix_is_its_vectors_by_their_values() {
        for count in [1, 2, 7, 40] {
            let (values, vectors) = eigen(kernel(count), count);
            let turned: Vec<_> = (0..count * count).map(|at| vectors[at % count * count + at / count]).collect();
            let scaled: Vec<_> = vectors.iter().enumerate().map(|(at, number)| values[at / count] * number).collect();
            assert!(is_near(&product(&turned, &scaled, count), &kernel(count), 1e-13), "{count}");
            let mut identity = vec![0.0; count * count];
            identity.iter_mut().step_by(count + 1).for_each(|one| *one = 1.0);
            assert!(is_near(&product(&vectors, &turned, count), &identity, 1e-13), "{count}");
        }
    }

    #[test]
    fn the_inverse_root_is_one() {
        let matrix = vec![4.0, 1.0, 0.5, 1.0, 3.0, 0.2, 0.5, 0.2, 2.0];
        let root = inverse_root(matrix.clone(), 3, 1e-12);
        let mut identity = vec![0.0; 9];
        identity.iter_mut().step_by(4).for_each(|one| *one = 1.0);
        assert!(is_near(&product(&product(&root, &matrix, 3), &root, 3), &identity, 1e-13), "{root:?}");
        // Of what is 0 nothing is divided by 0.
        assert!(inverse_root(vec![1.0; 9], 3, 1e-12).iter().all(|number| number.is_finite()));
    }
}
