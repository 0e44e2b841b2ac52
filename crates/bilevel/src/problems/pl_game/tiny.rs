//! V2-tiny: d = 3, every number printed, so that two implementations can be compared to the last digit.

use nalgebra::{DMatrix, DVector};

use super::{Data, LowerStart, PlGame, Pull};

impl PlGame {
    /// V2 with d = 3, Q = diag(1, 0.5, 0), ρ = 0.5 and no shift, from x = (1, 1, 1) and y = (0, 0, −1) whatever the seed.
    pub fn tiny() -> Self {
        let matrix = |rows: [f64; 9]| DMatrix::from_row_slice(3, 3, &rows);
        Self::new(Data {
            p: matrix([1.0, 0.2, 0.0, 0.2, 0.8, 0.1, 0.0, 0.1, 0.6]),
            q: matrix([1.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0]),
            r1: matrix([0.3, -0.1, 0.2, 0.1, 0.2, -0.3, -0.2, 0.1, 0.25]),
            r2: matrix([0.2, 0.3, 0.0, -0.1, 0.2, 0.0, 0.3, -0.2, 0.0]),
            pull: Pull::Everywhere(0.5),
            c: DVector::from_row_slice(&[1.0, -1.0, 2.0]),
            x0: vec![1.0; 3],
            start: LowerStart::Fixed(vec![0.0, 0.0, -1.0]),
        })
    }
}
