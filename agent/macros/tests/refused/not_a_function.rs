#[debug_agent_macros::patchable]
struct Rota;

fn main() {}
