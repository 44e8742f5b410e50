#[debug_agent_macros::patchable]
const fn two() -> u8 {
    2
}

fn main() {
    two();
}
