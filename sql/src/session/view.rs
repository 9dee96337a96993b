//! CREATE VIEW.

use sqlparser::ast;

use super::Session;
use crate::SqlError;
use crate::ddl;
use crate::engine::Engine;
use crate::sink::{Completion, Sink};

/// How often a view is planned anew because the schema has changed meanwhile.
const ATTEMPTS_MAX: u32 = 20;

impl<E: Engine> Session<E> {
    pub(super) async fn create_view<S: Sink>(
        &mut self,
        create: &ast::CreateView,
        sink: &mut S,
    ) -> Result<Completion, SqlError> {
        self.outside_block("CREATE VIEW")?;
        let described = ddl::view::describe(create)?;
        for _ in 0..ATTEMPTS_MAX {
            let catalog = self.db.load_strong().await?;
            let made = ddl::view::create(self.db.engine(), &catalog, self.db.queries(), &described).await?;
            let Some((change, replaced)) = made else { continue };
            if replaced {
                return self.gone("CREATE VIEW", change, sink).await;
            }
            let completion = self.changed("CREATE VIEW", change, sink).await?;
            // It has happened, whether or not the catalog can be read just now: who needs it tries again.
            let _ = self.db.load_strong().await;
            return Ok(completion);
        }
        Err(SqlError::new("40001", "could not serialize access: the schema keeps changing")
            .hint("Try the statement again."))
    }
}
