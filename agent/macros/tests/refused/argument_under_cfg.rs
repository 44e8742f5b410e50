#[debug_agent_macros::patchable]
fn two(#[cfg(unix)] n: u8) -> u8 {
    n
}

fn main() {
    two(1);
}
