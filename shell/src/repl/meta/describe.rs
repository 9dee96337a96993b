//! Meta-commands that describe the connection, the database and its tables.

use proto::v1::{TransactionState, Type};

use super::super::{Flow, Shell};
use crate::format::{self, int_value, text_value};
use crate::units::timestamp;

impl Shell {
    pub(super) async fn describe(&mut self, table: &str, more: bool) -> Flow {
        if !self.form().is_for_programs() {
            self.out.line(format!("Table {table}"));
        }
        let flow = self.query(&format!("SHOW COLUMNS FROM {table}")).await;
        if flow != Flow::Done || !more {
            return flow;
        }
        self.query(&format!("SHOW CREATE TABLE {table}")).await
    }

    pub(super) fn connection_info(&mut self) -> Flow {
        let Some(hello) = self.client.hello().cloned() else {
            return self.complain("not connected; the next statement tries again");
        };
        let ready = self.client.ready();
        let address = self.client.address().unwrap_or("").to_string();
        self.out.line(format!("connected to n{} at {address}, version {}", hello.node, hello.version));
        self.out.line(format!("cluster {}", hello.cluster_id));
        for node in &hello.nodes {
            self.out.line(format!("  n{} at {}", node.node, node.address));
        }
        let state = match ready.state() {
            TransactionState::Idle => "no transaction".to_string(),
            TransactionState::Open => format!("in transaction {}", ready.transaction),
            TransactionState::ReadOnly if ready.read_ts_ns == 0 => "in a read-only transaction".to_string(),
            TransactionState::ReadOnly => format!("in a read-only transaction at {}", timestamp(ready.read_ts_ns)),
            TransactionState::Failed => "in a failed transaction: ROLLBACK ends it".to_string(),
        };
        self.out.line(state);
        if let Some(at) = self.asof.clone() {
            self.out.line(format!("reads are as of {at}"));
        }
        Flow::Done
    }

    pub(super) async fn database(&mut self) -> Flow {
        let Some(hello) = self.client.hello().cloned() else {
            return self.complain("not connected; the next statement tries again");
        };
        let columns =
            [("name", Type::Text), ("cluster_id", Type::Text), ("version", Type::Text), ("nodes", Type::Bigint)];
        let row = vec![
            text_value("meridian"),
            text_value(hello.cluster_id),
            text_value(hello.version),
            int_value(hello.nodes.len()),
        ];
        format::print(self.form(), &columns, vec![row], &mut self.out);
        Flow::Done
    }
}
