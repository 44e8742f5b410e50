mod paths;
mod trees;

use serde::{Deserialize, Serialize};

use super::*;
use crate::for_test::*;
