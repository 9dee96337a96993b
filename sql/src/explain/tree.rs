//! The nodes of an explained plan, the outermost first: as lines for people, and as the objects that
//! PostgreSQL's tools read.

use serde_json::{Map, Value, json};

/// A plan whose nodes have one input each.
#[derive(Default)]
pub(crate) struct Tree {
    /// EXPLAIN's lines.
    pub lines: Vec<String>,
    nodes: Vec<Map<String, Value>>,
}

impl Tree {
    /// A node below the last one: its line, and what PostgreSQL calls it.
    pub fn add(&mut self, text: String, node_type: &str) {
        self.lines.push(format!("{}-> {text}", "  ".repeat(self.lines.len())));
        self.nodes.push(Map::from_iter([("Node Type".to_string(), json!(node_type))]));
    }

    /// Something else about the last node.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        if let Some(node) = self.nodes.last_mut() {
            node.insert(name.into(), value.into());
        }
    }

    /// The same, on its line too.
    pub fn say(&mut self, name: &str, value: &str) {
        if let Some(line) = self.lines.last_mut() {
            line.push_str("  ");
            line.push_str(value);
        }
        self.set(name, value);
    }

    /// The operators of another engine below the last node, one line each.
    pub fn operators(&mut self, lines: &[String]) {
        let indent = "  ".repeat(self.lines.len());
        self.lines.extend(lines.iter().map(|line| format!("{indent}{line}")));
        self.set("Operators", json!(lines));
    }

    /// Something about the outermost node.
    pub fn set_of_first(&mut self, name: &str, value: impl Into<Value>) {
        if let Some(node) = self.nodes.first_mut() {
            node.insert(name.into(), value.into());
        }
    }

    /// The nodes within each other. What PostgreSQL has no node for, a filter, belongs to the one below it.
    pub fn json(self) -> Value {
        let mut result: Option<Map<String, Value>> = None;
        for mut node in self.nodes.into_iter().rev() {
            let filter = node.get("Node Type").is_some_and(|kind| kind == FILTER);
            result = Some(match (filter, result) {
                (true, Some(mut inner)) => {
                    node.remove("Node Type");
                    // What was said of the filter as the outermost node is now said of this one.
                    inner.extend(node);
                    inner
                }
                (_, Some(inner)) => {
                    node.insert("Plans".into(), json!([inner]));
                    node
                }
                (_, None) => node,
            });
        }
        Value::Object(result.unwrap_or_default())
    }
}

/// The type of a node that is none in PostgreSQL.
pub(crate) const FILTER: &str = "Filter";
