//! Names that occur once.

use std::collections::HashMap;

/// Hands out names; a name asked for again gets `~2`, `~3`, ... behind it.
#[derive(Default)]
pub(crate) struct UniqueIds(HashMap<String, usize>);

impl UniqueIds {
    /// `id`, or the first free name made from it.
    pub(crate) fn take(&mut self, id: String) -> String {
        let Some(num_taken) = self.0.get(&id).copied() else {
            self.0.insert(id.clone(), 1);
            return id;
        };
        let (num, free) = (num_taken + 1..)
            .map(|num| (num, format!("{id}~{num}")))
            .find(|(_, name)| !self.0.contains_key(name))
            .expect("there are more numbers than names");
        self.0.insert(id, num);
        self.0.insert(free.clone(), 1);
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_never_repeat() {
        let mut ids = UniqueIds::default();
        let taken: Vec<_> = ["a", "a~2", "a", "a", "a~2"].map(|id| ids.take(id.to_owned())).into();
        assert_eq!(taken, ["a", "a~2", "a~3", "a~4", "a~2~2"]);
    }
}
