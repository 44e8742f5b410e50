struct Rota;

impl Rota {
    #[debug_agent_macros::patchable]
    fn merge(first: u8, other: Option<Self>) -> u8 {
        first + u8::from(other.is_some())
    }
}

fn main() {}
