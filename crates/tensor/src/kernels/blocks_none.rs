//! In the place of `blocks` on machines where no instruction set but f32 is ever available.

use rayon::ThreadPool;

use super::isa::Isa;
use super::matmul::Init;
use super::matrix::{MatMut, MatRef};
use crate::element::Line;

const NEVER: &str = "only f32 is available on this machine";

pub(super) fn packed_lines(_isa: Isa, _rows: usize, _k: usize) -> usize {
    unreachable!("{NEVER}")
}

pub(super) fn pack_right(_isa: Isa, _b: MatRef, _out: &mut [Line], _pool: Option<&ThreadPool>) {
    unreachable!("{NEVER}")
}

pub(super) fn product(_isa: Isa, _c: MatMut, _init: Init, _a: MatRef, _b: MatRef, _pool: Option<&ThreadPool>) {
    unreachable!("{NEVER}")
}

pub(super) fn product_packed(
    _isa: Isa,
    _c: MatMut,
    _init: Init,
    _a: MatRef,
    _right: &[Line],
    _pool: Option<&ThreadPool>,
) {
    unreachable!("{NEVER}")
}

pub(super) fn spin(_isa: Isa, _num_rounds: u64) -> u64 {
    unreachable!("{NEVER}")
}
