#[debug_agent_macros::patchable]
unsafe fn two() -> u8 {
    2
}

fn main() {}
