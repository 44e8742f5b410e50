struct Rota;

impl Rota {
    #[debug_agent_macros::patchable]
    fn next(&self) -> u8 {
        1
    }
}

fn main() {}
