//! SHOW.

use super::Session;
use super::block::Block;
use super::run::{send, tag};
use crate::SqlError;
use crate::catalog::undefined_table;
use crate::engine::{AdminCommand, Engine, ReadBound};
use crate::parse::Show;
use crate::settings::Settings;
use crate::show;
use crate::sink::{ColumnInfo, Completion, Notice, Sink};
use crate::types::{DataType, Datum};

fn timestamp_column(name: &str) -> Vec<ColumnInfo> {
    vec![ColumnInfo { name: name.into(), ty: DataType::Timestamp }]
}

/// The columns, where they are known before asking the engine.
pub(super) fn static_columns(what: &Show) -> Vec<ColumnInfo> {
    match what {
        Show::CommitTimestamp => timestamp_column("commit_timestamp"),
        Show::ReadTimestamp => timestamp_column("read_timestamp"),
        Show::All => show::text_columns(&["name", "setting", "description"]),
        Show::Setting(name) => show::text_columns(&[name]),
        Show::Tables => show::tables(&crate::catalog::Catalog::default()).0,
        Show::CreateTable(_) => show::text_columns(&["table_name", "create_statement"]),
        Show::CreateView(_) => show::text_columns(&["view_name", "create_statement"]),
        Show::Views => show::views(&crate::catalog::Catalog::default()).0,
        Show::Jobs => show::index::jobs(&crate::catalog::Catalog::default()).0,
        _ => Vec::new(),
    }
}

impl<E: Engine> Session<E> {
    /// SET, and SET LOCAL.
    pub(super) fn set<S: Sink>(
        &mut self,
        name: &str,
        value: Option<&str>,
        local: bool,
        sink: &mut S,
    ) -> Result<Completion, SqlError> {
        let in_block = !matches!(self.block, Block::Idle);
        if local && !in_block {
            sink.notice(Notice::warning("25P01", "SET LOCAL can only be used in transaction blocks"));
            self.settings.clone().set(name, value)?;
        } else {
            self.scope.set(&mut self.settings, in_block, local, |settings| settings.set(name, value))?;
        }
        Ok(tag("SET"))
    }

    /// RESET.
    pub(super) fn reset(&mut self, name: Option<&str>) -> Result<Completion, SqlError> {
        let in_block = !matches!(self.block, Block::Idle);
        self.scope.set(&mut self.settings, in_block, false, |settings| match name {
            Some(name) => settings.set(name, None),
            None => {
                *settings = Settings::default();
                Ok(())
            }
        })?;
        Ok(tag("RESET"))
    }

    pub(super) async fn show<S: Sink>(&mut self, what: &Show, sink: &mut S) -> Result<Completion, SqlError> {
        let command = match what {
            Show::Nodes => AdminCommand::ShowNodes,
            Show::Groups => AdminCommand::ShowGroups,
            Show::Ranges(None) => AdminCommand::ShowRanges,
            Show::Transactions => AdminCommand::ShowTransactions,
            Show::Locks => AdminCommand::ShowLocks,
            Show::Clock => AdminCommand::ShowClock,
            Show::TransactionStatus { txn, coordinator } => {
                let remembered =
                    self.last_ambiguous.as_ref().filter(|last| last.txn == *txn).map(|last| last.coordinator);
                AdminCommand::TransactionStatus { txn: *txn, coordinator: coordinator.or(remembered) }
            }
            Show::Ranges(Some(name)) => {
                let catalog = self.db.load_strong().await?;
                let table = catalog.table(name).ok_or_else(|| undefined_table(name))?;
                let rows = self.db.engine().admin(AdminCommand::ShowRanges).await?;
                let (columns, rows) = show::admin(show::ranges_of(rows, table)?, &catalog);
                send(columns, rows, sink).await?;
                return Ok(tag("SHOW"));
            }
            Show::Tables => {
                let catalog = self.db.load_strong().await?;
                let (columns, rows) = show::tables(&catalog);
                send(columns, rows, sink).await?;
                return Ok(tag("SHOW"));
            }
            Show::Views => {
                let catalog = self.db.load_strong().await?;
                let (columns, rows) = show::views(&catalog);
                send(columns, rows, sink).await?;
                return Ok(tag("SHOW"));
            }
            Show::CreateView(name) => {
                let catalog = self.db.load_strong().await?;
                let view = catalog.views.get(name).ok_or_else(|| undefined_table(name))?;
                let (columns, rows) = show::create_view(view);
                send(columns, rows, sink).await?;
                return Ok(tag("SHOW"));
            }
            Show::Jobs => {
                let catalog = self.db.load_strong().await?;
                let (columns, rows) = show::index::jobs(&catalog);
                send(columns, rows, sink).await?;
                return Ok(tag("SHOW"));
            }
            Show::Indexes(name) => {
                let catalog = self.db.load_strong().await?;
                let table = catalog.table(name).ok_or_else(|| undefined_table(name))?;
                let (columns, rows) = show::index::indexes(table);
                send(columns, rows, sink).await?;
                return Ok(tag("SHOW"));
            }
            Show::Columns(name) | Show::CreateTable(name) => {
                let catalog = self.db.load_strong().await?;
                let table = catalog.table(name).ok_or_else(|| undefined_table(name))?;
                let (columns, rows) = match what {
                    Show::Columns(_) => show::columns(table),
                    _ => show::create_table(table, &catalog),
                };
                send(columns, rows, sink).await?;
                return Ok(tag("SHOW"));
            }
            _ => {
                let rows = self.own_rows(what)?;
                send(static_columns(what), rows, sink).await?;
                return Ok(tag("SHOW"));
            }
        };
        self.admin(command, "SHOW", sink).await
    }

    /// What the session itself knows.
    fn own_rows(&self, what: &Show) -> Result<Vec<Vec<Datum>>, SqlError> {
        let text = |text: &str| Datum::Text(text.to_string());
        Ok(match what {
            Show::CommitTimestamp => {
                let at = self.last_commit.as_ref().and_then(|commit| commit.commit_ts);
                vec![vec![at.map_or(Datum::Null, Datum::Timestamp)]]
            }
            Show::ReadTimestamp => {
                let at = match &self.block {
                    Block::ReadOnly(block) => match block.bound {
                        ReadBound::At(at) => Some(at),
                        _ => None,
                    },
                    _ => self.last_read_ts,
                };
                vec![vec![at.map_or(Datum::Null, Datum::Timestamp)]]
            }
            Show::All => {
                self.settings.all().map(|(name, value, about)| vec![text(name), text(value), text(about)]).collect()
            }
            Show::Setting(name) if name == "transaction_read_only" => {
                let on = match self.block {
                    Block::ReadOnly(_) => true,
                    Block::Open(_) => false,
                    _ => self.settings.read_only() || self.settings.read_time().is_some(),
                };
                vec![vec![text(if on { "on" } else { "off" })]]
            }
            Show::Setting(name) => vec![vec![text(self.settings.get(name)?)]],
            other => panic!("{other:?} is not the session's own"),
        })
    }
}
