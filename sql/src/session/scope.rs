//! What a transaction block does to the settings: SET is undone with the block, or with what of it
//! is rolled back; SET LOCAL ends with the block however it ends.
//!
//! A block that sets nothing costs nothing: the first SET in it keeps what was before.

use crate::SqlError;
use crate::settings::Settings;

/// The settings around those of the present block.
#[derive(Debug, Default)]
pub(super) struct Scope(Option<Outer>);

#[derive(Clone, Debug)]
struct Outer {
    /// As the block began: for ROLLBACK.
    before: Settings,
    /// As they will be after it: for COMMIT.
    after: Settings,
}

/// The settings at a savepoint; `None` if nothing had been set in the block.
pub(super) type Kept = Option<Box<(Settings, Settings)>>;

impl Scope {
    /// SET in a block, or outside of any.
    pub fn set(
        &mut self,
        settings: &mut Settings,
        in_block: bool,
        local: bool,
        change: impl Fn(&mut Settings) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        let mut changed = settings.clone();
        change(&mut changed)?;
        if in_block {
            let outer = self.0.get_or_insert_with(|| Outer { before: settings.clone(), after: settings.clone() });
            if !local {
                change(&mut outer.after)?;
            }
        }
        *settings = changed;
        Ok(())
    }

    /// The block has ended.
    pub fn end(&mut self, settings: &mut Settings, committed: bool) {
        if let Some(Outer { before, after }) = self.0.take() {
            *settings = if committed { after } else { before };
        }
    }

    /// For a savepoint.
    pub fn keep(&self, settings: &Settings) -> Kept {
        self.0.as_ref().map(|outer| Box::new((settings.clone(), outer.after.clone())))
    }

    /// ROLLBACK TO the savepoint.
    pub fn go_back(&mut self, settings: &mut Settings, kept: &Kept) {
        match (kept, &mut self.0) {
            (Some(kept), Some(outer)) => {
                let (inner, after) = &**kept;
                (*settings, outer.after) = (inner.clone(), after.clone());
            }
            _ => self.end(settings, false),
        }
    }
}
