//! What effects cost.

use crate::effect::Effect;

/// The cost of an effect in operations: its record takes about as long to write, and as much room on the disk, as that
/// many operations take time.
pub(super) const EFFECT: u64 = 100;

/// Charges an effect, and every byte that it writes into logs. A run that exceeds its budget ends after this effect.
pub(super) fn charge_effect(effect: &Effect) {
    let written = match effect {
        Effect::Log { text, .. } => 1_000 + text.len() as u64,
        _ => EFFECT,
    };
    debug_script::meter::charge(written);
}
