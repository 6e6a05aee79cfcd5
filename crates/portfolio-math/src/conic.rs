//! Convex programs over weights, for the interior-point solver Clarabel. Assets whose weight is 0 in the end are most of
//! those that may be held long only, so a program is solved over a working set, and assets whose reduced cost says that
//! they would improve it are added until there are none. That is exact: then the conditions of an optimum hold for all
//! assets, and the time depends on how many are held instead of how many there are.

use clarabel::{
    algebra::CscMatrix,
    solver::{
        DefaultSettingsBuilder, DefaultSolver, IPSolver, NonnegativeConeT, SecondOrderConeT, SolverStatus,
        SupportedConeT, ZeroConeT,
    },
};

use crate::{
    allocation::{AllocationLimits, SolveStatus},
    error::MathError,
};

/// Accuracy that the solver is asked for: of the duality gap, and of the constraints.
const SOLVER_TOLERANCE: f64 = 1e-10;
/// Iterations of the solver at most; it needs 10 to 30.
const SOLVER_ITERATIONS: u32 = 200;

/// What a solver call ended with.
pub(crate) struct ConicAnswer {
    pub(crate) values: Vec<f64>,
    /// Multipliers of the equalities, then of the inequalities, then of cones.
    pub(crate) multipliers: Vec<f64>,
    pub(crate) status: SolveStatus,
    pub(crate) iterations: u32,
    pub(crate) gap: f64,
}

/// Why there is no answer.
pub(crate) enum ConicFailure {
    /// No values satisfy the constraints.
    Infeasible,
    /// The solver gave up.
    Stopped(String),
}

impl ConicFailure {
    /// The error of a program whose constraints come from `argument`.
    pub(crate) fn refuse(self, argument: &'static str, reason: impl FnOnce() -> String) -> MathError {
        match self {
            Self::Infeasible => MathError::Infeasible { argument, reason: reason() },
            Self::Stopped(reason) => MathError::NotSolved { reason },
        }
    }
}

/// A row of constraints: its entries by variable, and its right side.
type ConicRow = (Vec<(usize, f64)>, f64);

/// A convex program: minimise x'Px / 2 + q'x where equalities hold, inequalities hold (at most), and cones contain.
#[derive(Default)]
pub(crate) struct ConicProgram {
    /// Linear costs, one for each variable.
    pub(crate) costs: Vec<f64>,
    /// The upper triangle of the quadratic costs, as columns of (row, value).
    quadratic: Vec<Vec<(usize, f64)>>,
    equalities: Vec<ConicRow>,
    inequalities: Vec<ConicRow>,
    cones: Vec<(Vec<ConicRow>, SupportedConeT<f64>)>,
}

impl ConicProgram {
    /// Adds variables with the given linear costs and answers the first one's index.
    pub(crate) fn add_variables(&mut self, costs: impl IntoIterator<Item = f64>) -> usize {
        let first = self.costs.len();
        self.costs.extend(costs);
        self.quadratic.resize(self.costs.len(), Vec::new());
        first
    }

    /// Sets the quadratic costs of a pair of variables, `row` not after `column`. Rows of a column come in order.
    pub(crate) fn add_quadratic(&mut self, row: usize, column: usize, value: f64) {
        self.quadratic[column].push((row, value));
    }

    /// Σ entries = right; answers its place among the multipliers of equalities.
    pub(crate) fn add_equality(&mut self, entries: Vec<(usize, f64)>, right: f64) -> usize {
        self.equalities.push((entries, right));
        self.equalities.len() - 1
    }

    /// Σ entries ≤ right; answers its place among the multipliers of inequalities.
    pub(crate) fn add_inequality(&mut self, entries: Vec<(usize, f64)>, right: f64) -> usize {
        self.inequalities.push((entries, right));
        self.inequalities.len() - 1
    }

    /// right - Σ entries, of all rows together, is in the cone.
    pub(crate) fn add_cone(&mut self, rows: Vec<ConicRow>, cone: SupportedConeT<f64>) {
        self.cones.push((rows, cone));
    }

    /// The norm of the rows' expressions (each Σ entries) is `bound` at most.
    pub(crate) fn add_norm(&mut self, rows: Vec<Vec<(usize, f64)>>, bound: f64) {
        let size = rows.len() + 1;
        let negative = |row: Vec<(usize, f64)>| (row.into_iter().map(|(at, value)| (at, -value)).collect(), 0.0);
        let rows = std::iter::once((Vec::new(), bound)).chain(rows.into_iter().map(negative)).collect();
        self.add_cone(rows, SecondOrderConeT(size));
    }

    /// The number of equalities: where the multipliers of inequalities begin.
    pub(crate) fn equalities(&self) -> usize {
        self.equalities.len()
    }

    /// Where the multipliers of cones begin.
    pub(crate) fn rows_before_cones(&self) -> usize {
        self.equalities.len() + self.inequalities.len()
    }

    /// Solves the program.
    pub(crate) fn solve(self) -> std::result::Result<ConicAnswer, ConicFailure> {
        let variables = self.costs.len();
        let mut cones = vec![ZeroConeT(self.equalities.len()), NonnegativeConeT(self.inequalities.len())];
        let mut rows: Vec<ConicRow> = self.equalities.into_iter().chain(self.inequalities).collect();
        for (more, cone) in self.cones {
            rows.extend(more);
            cones.push(cone);
        }
        let right: Vec<f64> = rows.iter().map(|(_, right)| *right).collect();
        let mut columns = vec![Vec::new(); variables];
        for (at, (entries, _)) in rows.iter().enumerate() {
            for (variable, value) in entries.iter().filter(|(_, value)| *value != 0.0) {
                columns[*variable].push((at, *value));
            }
        }
        let quadratic = compressed(variables, variables, self.quadratic);
        let constraints = compressed(rows.len(), variables, columns);
        let settings = DefaultSettingsBuilder::default()
            .verbose(false)
            .max_iter(SOLVER_ITERATIONS)
            .max_threads(1)
            .tol_gap_abs(SOLVER_TOLERANCE)
            .tol_gap_rel(SOLVER_TOLERANCE)
            .tol_feas(SOLVER_TOLERANCE)
            .build()
            .map_err(|error| ConicFailure::Stopped(error.to_string()))?;
        let mut solver = DefaultSolver::new(&quadratic, &self.costs, &constraints, &right, &cones, settings)
            .map_err(|error| ConicFailure::Stopped(error.to_string()))?;
        solver.solve();
        let solution = solver.solution;
        let status = match solution.status {
            SolverStatus::Solved => SolveStatus::Optimal,
            SolverStatus::AlmostSolved => SolveStatus::AlmostOptimal,
            SolverStatus::PrimalInfeasible | SolverStatus::AlmostPrimalInfeasible => {
                return Err(ConicFailure::Infeasible);
            }
            other => return Err(ConicFailure::Stopped(format!("{other:?} after {} steps", solution.iterations))),
        };
        let gap = (solution.obj_val - solution.obj_val_dual).abs() / solution.obj_val.abs().max(1.0);
        Ok(ConicAnswer { values: solution.x, multipliers: solution.z, status, iterations: solution.iterations, gap })
    }
}

fn compressed(rows: usize, columns: usize, entries: Vec<Vec<(usize, f64)>>) -> CscMatrix<f64> {
    let mut starts = Vec::with_capacity(columns + 1);
    starts.push(0);
    let (mut places, mut values) = (Vec::new(), Vec::new());
    for column in entries {
        for (row, value) in column {
            places.push(row);
            values.push(value);
        }
        starts.push(places.len());
    }
    CscMatrix::new(rows, columns, starts, places, values)
}

/// The variables that stand for the weights of a working set, and where their limits' multipliers are.
pub(crate) struct WeightBlock {
    /// The assets, by their index.
    pub(crate) set: Vec<usize>,
    /// The first weight's variable.
    pub(crate) first: usize,
    /// The place of the sum of weights among the equalities.
    budget: usize,
    /// Sectors: the sector, whether its upper limit, and the place among the inequalities.
    sectors: Vec<(usize, bool, usize)>,
    /// The place of the turnover limit among the inequalities.
    turnover: Option<usize>,
}

/// Adds the limits of the weights of `set`, whose variables begin at `first`; all others are 0. With `scale`, the
/// variables are weights times that variable.
pub(crate) fn add_limits(
    program: &mut ConicProgram,
    limits: &AllocationLimits,
    set: Vec<usize>,
    first: usize,
    scale: Option<usize>,
) -> WeightBlock {
    // entries ≤ right, where right grows with the scale.
    let scaled = |mut entries: Vec<(usize, f64)>, right: f64| match scale {
        Some(scale) => {
            entries.push((scale, -right));
            (entries, 0.0)
        }
        None => (entries, right),
    };
    let variables: Vec<usize> = (first..first + set.len()).collect();
    let (entries, right) = scaled(variables.iter().map(|at| (*at, 1.0)).collect(), 1.0);
    let budget = program.add_equality(entries, right);
    for (variable, asset) in variables.iter().zip(&set) {
        let (lower, upper) = (limits.lower[*asset], limits.upper[*asset]);
        let (entries, right) = scaled(vec![(*variable, -1.0)], -lower);
        program.add_inequality(entries, right);
        // A bound of 1 follows from the others where no weight may be below 0.
        if upper < 1.0 || limits.lower.iter().any(|lower| *lower < 0.0) {
            let (entries, right) = scaled(vec![(*variable, 1.0)], upper);
            program.add_inequality(entries, right);
        }
    }
    let mut sectors = Vec::new();
    for (at, sector) in limits.sectors.iter().enumerate() {
        let members: Vec<usize> =
            variables.iter().zip(&set).filter(|(_, asset)| sector.assets.contains(asset)).map(|(v, _)| *v).collect();
        for (is_most, sign, bound) in [(true, 1.0, sector.most), (false, -1.0, sector.least)] {
            let (entries, right) = scaled(members.iter().map(|at| (*at, sign)).collect(), sign * bound);
            sectors.push((at, is_most, program.add_inequality(entries, right)));
        }
    }
    let turnover = limits.turnover.as_ref().map(|turnover| {
        let changes = program.add_variables(vec![0.0; set.len()]);
        for (at, (variable, asset)) in variables.iter().zip(&set).enumerate() {
            for sign in [1.0, -1.0] {
                let entries = vec![(*variable, sign), (changes + at, -1.0)];
                let (entries, right) = scaled(entries, sign * turnover.current[*asset]);
                program.add_inequality(entries, right);
            }
        }
        let (entries, right) = scaled((changes..changes + set.len()).map(|at| (at, 1.0)).collect(), turnover.most);
        program.add_inequality(entries, right)
    });
    WeightBlock { set, first, budget, sectors, turnover }
}

impl WeightBlock {
    /// The weights of all assets, without the scale.
    pub(crate) fn weights(&self, answer: &ConicAnswer, assets: usize) -> Vec<f64> {
        let mut weights = vec![0.0; assets];
        for (at, asset) in self.set.iter().enumerate() {
            weights[*asset] = answer.values[self.first + at];
        }
        weights
    }

    /// Adds what the limits charge for each asset to the objective's gradient: for an asset outside the set, the result
    /// is its reduced cost, and below 0 it would improve the answer.
    pub(crate) fn add_prices(
        &self,
        costs: &mut [f64],
        limits: &AllocationLimits,
        answer: &ConicAnswer,
        equalities: usize,
    ) {
        let budget = answer.multipliers[self.budget];
        let turnover = self.turnover.map_or(0.0, |at| answer.multipliers[equalities + at]);
        for cost in costs.iter_mut() {
            *cost += budget + turnover;
        }
        for (sector, is_most, at) in &self.sectors {
            let price = answer.multipliers[equalities + at] * if *is_most { 1.0 } else { -1.0 };
            for asset in &limits.sectors[*sector].assets {
                costs[*asset] += price;
            }
        }
    }
}
