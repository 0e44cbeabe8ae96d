//! A key is a partition of a table, with one entity: so that many keys are served by many machines.

use super::account::{Answer, Call};
use super::{Failure, Only, Result, Service};
use crate::keyvalue::MANY;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderName, IF_MATCH};
use serde_json::{Value, json};

/// Each partition has one entity, whose row has this key.
const ROW: &str = "value";
/// Bytes of a property (Azure Storage, "Understanding the Table service data model").
const PROPERTY: usize = 64 << 10;
/// Headers with where the next page begins.
const NEXT: [&str; 2] = ["x-ms-continuation-nextpartitionkey", "x-ms-continuation-nextrowkey"];

pub struct Table(pub String);

impl Table {
    fn call(&self, method: Method, path: String) -> Call {
        Call { method, path, query: Vec::new(), headers: Vec::new(), body: Bytes::new() }
    }

    fn entity(&self, name: &str) -> String {
        format!("{}(PartitionKey='{name}',RowKey='{ROW}')", self.0)
    }

    fn with(call: Call, body: &Value) -> Call {
        let json = (CONTENT_TYPE, "application/json".to_owned());
        let quiet = (HeaderName::from_static("prefer"), "return-no-content".to_owned());
        Call { headers: [call.headers, vec![json, quiet]].concat(), body: body.to_string().into(), ..call }
    }
}

fn unreadable() -> Failure {
    Failure::Unavailable("it answers with what is no entity of this store".to_owned())
}

impl Service for Table {
    fn value_limit(&self) -> (usize, &'static str) {
        (PROPERTY, "the value has more than 64 KiB, which a table does not hold: keep it in azure-blob")
    }

    fn create(&self) -> Call {
        Self::with(self.call(Method::POST, "Tables".to_owned()), &json!({ "TableName": self.0 }))
    }

    fn read(&self, name: &str) -> Call {
        Call { query: vec![("$select", "Value".to_owned())], ..self.call(Method::GET, self.entity(name)) }
    }

    fn value(&self, answer: &Answer) -> Result<Vec<u8>> {
        let entity: Value = serde_json::from_slice(&answer.body).map_err(|_| unreadable())?;
        STANDARD.decode(entity["Value"].as_str().ok_or_else(unreadable)?).map_err(|_| unreadable())
    }

    fn write(&self, name: &str, value: Vec<u8>, only: &Only) -> Call {
        let entity = json!({
            "PartitionKey": name, "RowKey": ROW, "Value@odata.type": "Edm.Binary", "Value": STANDARD.encode(value)
        });
        let call = match only {
            Only::New => self.call(Method::POST, self.0.clone()),
            Only::Always | Only::Unchanged(_) => self.call(Method::PUT, self.entity(name)),
        };
        let headers = match only {
            Only::Unchanged(etag) => vec![(IF_MATCH, etag.clone())],
            Only::Always | Only::New => Vec::new(),
        };
        Self::with(Call { headers, ..call }, &entity)
    }

    fn delete(&self, name: &str) -> Call {
        Call { headers: vec![(IF_MATCH, "*".to_owned())], ..self.call(Method::DELETE, self.entity(name)) }
    }

    /// A prefix ends with `:`, and `;` is what comes after it.
    fn list(&self, prefix: &str, from: Option<&str>) -> Call {
        let below = format!("{};", prefix.trim_end_matches(':'));
        let mut query = vec![("$filter", format!("PartitionKey ge '{prefix}' and PartitionKey lt '{below}'"))];
        query.extend([("$select", "PartitionKey".to_owned()), ("$top", MANY.to_string())]);
        if let Some((partition, row)) = from.and_then(|from| from.split_once(' ')) {
            query.push(("NextPartitionKey", partition.to_owned()));
            if !row.is_empty() {
                query.push(("NextRowKey", row.to_owned()));
            }
        }
        Call { query, ..self.call(Method::GET, format!("{}()", self.0)) }
    }

    fn names(&self, answer: &Answer) -> Result<(Vec<String>, Option<String>)> {
        let page: Value = serde_json::from_slice(&answer.body).map_err(|_| unreadable())?;
        let entities = page["value"].as_array().ok_or_else(unreadable)?;
        let names = entities.iter().filter_map(|entity| entity["PartitionKey"].as_str()).map(str::to_owned).collect();
        let [partition, row] = NEXT.map(|name| answer.headers.get(name).and_then(|value| value.to_str().ok()));
        Ok((names, partition.map(|partition| format!("{partition} {}", row.unwrap_or_default()))))
    }
}
