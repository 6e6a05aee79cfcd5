//! Targets of SAC's critics and temperature.

/// Target of the critics for an action: reward plus the discounted value of the next state, which is the smaller of the
/// target critics' values of the actor's next action plus its entropy term: `r + discount (min Q - alpha log pi)`
/// (equations 2 and 3; the minimum: Fujimoto et al. 2018, arXiv:1802.09477).
pub(super) fn critic_target(reward: f32, discount: f32, q: [f32; 2], alpha: f32, log_density: f32) -> f32 {
    reward + discount * (q[0].min(q[1]) - alpha * log_density)
}

/// Derivative of the temperature's loss, `-log alpha (log pi + target)`, by `log alpha`: where the entropy `-log pi` is
/// below its target, the temperature rises.
pub(super) fn temperature_gradient(log_density: f64, target_entropy: f64) -> f64 {
    -(log_density + target_entropy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_those_computed_by_hand() {
        // 1 + 0.5 * (3 - 0.25 * 2).
        assert_eq!(critic_target(1.0, 0.5, [5.0, 3.0], 0.25, 2.0), 2.25);
        // A rare action is worth more: 1 + 0.5 * (3 + 0.25 * 2).
        assert_eq!(critic_target(1.0, 0.5, [3.0, 5.0], 0.25, -2.0), 2.75);
        assert_eq!(critic_target(1.0, 0.0, [5.0, 3.0], 0.25, 2.0), 1.0, "nothing follows an end");
        // An entropy of 0.5 where -1 is aimed at is too much, -3 too little: a gradient step goes against these.
        assert_eq!(temperature_gradient(-0.5, -1.0), 1.5);
        assert_eq!(temperature_gradient(3.0, -1.0), -2.0);
    }
}
