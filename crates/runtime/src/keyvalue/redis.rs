//! A store in Redis, over one connection that all functions share. One that has failed is replaced at the next call.

use super::{Failure, MANY, NO_CURSOR, NO_NUMBER, PATIENCE, Page, Result};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisError, cmd};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// Sets a key if it has the old value. The first argument says whether there was one.
const SWAP: &str = "local now = redis.call('GET', KEYS[1]) \
    if (ARGV[1] == '1' and now == ARGV[2]) or (ARGV[1] == '0' and not now) then redis.call('SET', KEYS[1], ARGV[3]) return 1 end \
    return 0";

pub struct Redis {
    /// May hold a password.
    url: String,
    connection: Mutex<Option<(u64, MultiplexedConnection)>>,
    /// Counts connections.
    made: AtomicU64,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redis(not shown)")
    }
}

impl Redis {
    pub fn new(url: String) -> Self {
        Self { url, connection: Mutex::default(), made: AtomicU64::new(0) }
    }

    pub async fn get(&self, key: String) -> Result<Option<Vec<u8>>> {
        self.ask(cmd("GET").arg(key)).await
    }

    pub async fn set(&self, key: String, value: Vec<u8>) -> Result<()> {
        self.ask(cmd("SET").arg(key).arg(value)).await
    }

    pub async fn delete(&self, key: String) -> Result<()> {
        self.ask(cmd("DEL").arg(key)).await
    }

    /// Redis lists all keys that it has, and picks ours: a page may be empty.
    pub async fn list(&self, prefix: String, from: Option<String>) -> Result<Page> {
        let from = from.map_or(Ok(0), |from| from.parse::<u64>()).map_err(|_| NO_CURSOR)?;
        let mut scan = cmd("SCAN");
        scan.arg(from).arg("MATCH").arg(pattern(&prefix)).arg("COUNT").arg(MANY);
        let (next, keys): (u64, Vec<Vec<u8>>) = self.ask(&scan).await?;
        // Ours are texts.
        let keys = keys.into_iter().filter_map(|key| String::from_utf8(key).ok()).collect();
        Ok(Page { keys, next: (next != 0).then(|| next.to_string()) })
    }

    pub async fn increment(&self, key: String, by: i64) -> Result<i64> {
        self.ask(cmd("INCRBY").arg(key).arg(by)).await
    }

    pub async fn swap(&self, key: String, old: Option<Vec<u8>>, new: Vec<u8>) -> Result<bool> {
        let mut eval = cmd("EVAL");
        eval.arg(SWAP).arg(1).arg(key).arg(i32::from(old.is_some())).arg(old.unwrap_or_default()).arg(new);
        self.ask(&eval).await
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        let (number, mut connection) = self.connection().await?;
        match command.query_async(&mut connection).await {
            Ok(answer) => Ok(answer),
            Err(error) => {
                if error.is_io_error() || error.is_unrecoverable_error() || is_elsewhere(&error) {
                    // Others may have a newer one already.
                    self.connection.lock().await.take_if(|(present, _)| *present == number);
                }
                let words = error.to_string();
                let no_number = ["not an integer", "would overflow"].iter().any(|what| words.contains(what));
                Err(if no_number {
                    NO_NUMBER
                } else if error.code() == Some("OOM") {
                    // It has as much as its own `maxmemory` allows.
                    Failure::Refused("the store is full")
                } else {
                    broken(&error)
                })
            }
        }
    }

    /// The connection, made by one call while the others wait for it.
    async fn connection(&self) -> Result<(u64, MultiplexedConnection)> {
        let mut connection = self.connection.lock().await;
        if let Some(connection) = &*connection {
            return Ok(connection.clone());
        }
        let client = Client::open(&*self.url).map_err(|error| broken(&error))?;
        let config = AsyncConnectionConfig::new();
        let config = config.set_connection_timeout(Some(PATIENCE / 2)).set_response_timeout(Some(PATIENCE / 2));
        let made =
            client.get_multiplexed_async_connection_with_config(&config).await.map_err(|error| broken(&error))?;
        Ok(connection.insert((self.made.fetch_add(1, Ordering::Relaxed), made)).clone())
    }
}

/// Whether the server is the wrong one now: a replica, or one that has just started. Another connection may lead to the right one.
fn is_elsewhere(error: &RedisError) -> bool {
    error.code().is_some_and(|code| ["READONLY", "MASTERDOWN", "LOADING"].contains(&code))
}

/// What fits all keys that begin with `prefix`, in which the name of a file may have any letter.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for letter in prefix.chars() {
        if "\\*?[]".contains(letter) {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern + "*"
}

/// In the words of Redis and its client, which name no key, value or password.
fn broken(error: &RedisError) -> Failure {
    Failure::Unavailable(match error.code() {
        Some(code) => format!("{:?} ({code})", error.kind()),
        None => format!("{:?}", error.kind()),
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_prefix_means_what_it_says_in_a_pattern() {
        assert_eq!(super::pattern(r#"f/"auth[1]*?\.wasm":"#), r#"f/"auth\[1\]\*\?\\.wasm":*"#);
    }
}
