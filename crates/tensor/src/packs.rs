//! Weights in the order in which the kernels read them: packed once, until they change.

use std::collections::BTreeMap;
use std::fmt::{Debug, Formatter, Result};
use std::sync::{Arc, Mutex};

use crate::kernels::{Isa, MatRef, PackedB};
use crate::parameters::ParameterId;

/// What a weight `W [out, in]` is the right operand of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// `x W^T`, the way forward.
    Forward,
    /// `dy W`, the way back.
    Back,
}

/// A weight as the right operand of products.
pub(crate) enum Right<'a> {
    /// Where it is.
    Plain(MatRef<'a>),
    /// Packed before.
    Packed(Arc<PackedB>),
}

/// Packed weights, beside those that they are of: a copy of these starts without.
#[derive(Default)]
pub(crate) struct Packs(Mutex<BTreeMap<(ParameterId, Side), Pack>>);

struct Pack {
    operand: Arc<PackedB>,
    /// Whether the weight is still what it was when it was packed. If not, its memory is there for the next time.
    is_current: bool,
}

impl Packs {
    /// A weight's side, if it was packed for `isa` and has not changed since.
    pub(crate) fn find(&self, key: (ParameterId, Side), isa: Isa) -> Option<Arc<PackedB>> {
        let packs = self.0.lock().expect("no holder panics");
        let pack = packs.get(&key).filter(|pack| pack.is_current && pack.operand.isa() == isa)?;
        Some(Arc::clone(&pack.operand))
    }

    /// A weight's side, packed by `pack` in the place of what was packed before.
    pub(crate) fn replace(&self, key: (ParameterId, Side), pack: impl FnOnce(&mut PackedB)) -> Arc<PackedB> {
        let before = self.0.lock().expect("no holder panics").remove(&key);
        let mut operand = before.map(|pack| pack.operand).filter(|operand| Arc::strong_count(operand) == 1);
        // Outside of the lock: threads that wait for each other here would wait forever. Twice packed is no harm.
        let operand = operand.get_or_insert_default();
        pack(Arc::get_mut(operand).expect("nobody else has it"));
        let kept = Pack { operand: Arc::clone(operand), is_current: true };
        self.0.lock().expect("no holder panics").insert(key, kept);
        Arc::clone(operand)
    }

    /// Says that the weights that `which` chooses change.
    pub(crate) fn outdate(&mut self, which: impl Fn(ParameterId) -> bool) {
        let packs = self.0.get_mut().expect("no holder panics");
        packs.iter_mut().filter(|((id, _), _)| which(*id)).for_each(|(_, pack)| pack.is_current = false);
    }
}

impl Clone for Packs {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Debug for Packs {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("Packs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AdamW, AdamWConfig, Device, Format, Gradients, ParameterSpec, Parameters, Precision, Tape};

    fn devices() -> Vec<Device> {
        let (have, lack): (Vec<_>, Vec<_>) = Precision::ALL.into_iter().partition(|precision| precision.is_available());
        lack.iter().for_each(|precision| eprintln!("SKIPPED: this machine has no products in {}", precision.name()));
        have.into_iter().map(|precision| Device::cpu(2, precision).unwrap()).collect()
    }

    fn weights() -> (Parameters, ParameterId) {
        let (mut parameters, values) = (Parameters::default(), (0..40 * 70).map(|i| (i % 13) as f32 - 6.0));
        let id = parameters.add(ParameterSpec::matrix("w", 40, 70), &values.collect::<Vec<_>>());
        (parameters, id)
    }

    /// `x W^T` and, of a tape that runs backwards, the gradient by `x`.
    fn product(device: &Device, parameters: &Parameters, weight: ParameterId, back: bool) -> Vec<f32> {
        let mut gradients = Gradients::zeros(parameters);
        let mut tape = match back {
            true => Tape::recording(device, parameters, &mut gradients).keeping_packs(true),
            false => Tape::inference(device, parameters),
        };
        let x = tape.input(device.tensor(3, 70, &(0..210).map(|i| (i % 7) as f32 - 3.0).collect::<Vec<_>>()));
        let y = tape.linear(x, weight, None, Format::F32);
        let mut found = tape.value(y).to_vec();
        if back {
            let seed = device.ones(3, 40);
            found.extend(tape.backward_with(y, seed, &[x]).remove(0).to_vec());
        }
        found
    }

    fn packed(device: &Device, parameters: &Parameters, id: ParameterId, side: Side) -> Option<*const PackedB> {
        match parameters.right(device, id, side, false) {
            Right::Packed(operand) => Some(Arc::as_ptr(&operand)),
            Right::Plain(_) => None,
        }
    }

    #[test]
    fn weights_are_packed_once_until_they_change() {
        for device in devices() {
            let (mut parameters, id) = weights();
            let both = |parameters: &Parameters| {
                [Side::Forward, Side::Back].map(|side| packed(&device, parameters, id, side).is_some())
            };
            assert_eq!(both(&parameters), [false; 2]);
            product(&device, &parameters, id, false);
            assert_eq!(both(&parameters), [device.isa().packs(), false], "only the way forward");
            let first = packed(&device, &parameters, id, Side::Forward);
            product(&device, &parameters, id, true);
            assert_eq!(both(&parameters), [device.isa().packs(); 2]);
            assert_eq!(packed(&device, &parameters, id, Side::Forward), first, "not packed again");
            assert_eq!(both(&parameters.clone()), [false; 2]);
            parameters.value_mut(id)[0] = 1.0;
            assert_eq!(both(&parameters), [false; 2]);
            product(&device, &parameters, id, true);
            assert_eq!(packed(&device, &parameters, id, Side::Forward), first, "in the same place");
            parameters.freeze(|_| true);
            let copy = parameters.clone();
            product(&device, &copy, id, true);
            assert_eq!(both(&parameters), [device.isa().packs(); 2], "copies share what is frozen");
        }
    }

    #[test]
    fn products_are_of_weights_as_they_are() {
        type Change = fn(&Device, &mut Parameters, ParameterId);
        let changes: [Change; 4] = [
            |_, parameters, id| parameters.value_mut(id)[5] = 100.0,
            |_, parameters, _| parameters.flat_mut()[5] = 100.0,
            |device, parameters, _| {
                let mut gradients = Gradients::zeros(parameters);
                gradients.flat(parameters).fill(1.0);
                AdamW::new(AdamWConfig::default(), parameters).step(device, parameters, &mut gradients, 0.5);
            },
            |_, parameters, _| parameters.freeze(|_| true),
        ];
        for device in devices() {
            for (idx, change) in changes.into_iter().enumerate() {
                let (mut parameters, id) = weights();
                let before = product(&device, &parameters, id, true);
                change(&device, &mut parameters, id);
                let after = product(&device, &parameters, id, true);
                // A copy has packed nothing.
                assert_eq!(after, product(&device, &parameters.clone(), id, true), "change {idx}");
                assert_eq!(after == before, idx == 3, "change {idx}");
            }
        }
    }

    #[test]
    fn what_is_packed_for_one_set_of_instructions_is_not_read_by_another() {
        let (parameters, id) = weights();
        for device in devices().into_iter().chain(devices()) {
            let fresh = product(&device, &parameters.clone(), id, true);
            assert_eq!(product(&device, &parameters, id, true), fresh, "{:?}", device.precision());
        }
    }
}
