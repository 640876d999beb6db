//! What plugins keep of their own: [`Values`] on the same database, one table, each plugin's rows apart.

use async_trait::async_trait;
use easel_core::{Error, Fits, ValueQuota, Values};

use crate::error::StoreError;
use crate::metadata::to_millis;
use crate::store::Store;

#[async_trait]
impl Values for Store {
    async fn get(&self, plugin: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let select = "SELECT value FROM plugin_value WHERE plugin = ? AND key = ?";
        let row: Option<(Vec<u8>,)> = sqlx::query_as(select)
            .bind(plugin)
            .bind(key.as_bytes())
            .fetch_optional(&self.metadata.pool)
            .await
            .map_err(read)?;
        Ok(row.map(|(value,)| value))
    }

    async fn set(&self, plugin: &str, key: &str, value: &[u8], quota: ValueQuota) -> Result<Fits, Error> {
        // The write lock is taken before anything is counted, so that two at a time cannot exceed the quota together.
        let mut transaction = self.metadata.pool.begin_with("BEGIN IMMEDIATE").await.map_err(write)?;
        let select = "SELECT count(*), coalesce(sum(length(key) + length(value)), 0) FROM plugin_value \
            WHERE plugin = ? AND key != ?";
        let (others, bytes): (i64, i64) = sqlx::query_as(select)
            .bind(plugin)
            .bind(key.as_bytes())
            .fetch_one(&mut *transaction)
            .await
            .map_err(read)?;
        let length = (key.len() + value.len()) as u64;
        if u64::try_from(others).unwrap_or(0) >= quota.keys {
            return Ok(Fits::TooManyKeys);
        }
        if u64::try_from(bytes).unwrap_or(0).saturating_add(length) > quota.bytes {
            return Ok(Fits::TooManyBytes);
        }
        let insert = "INSERT INTO plugin_value (plugin, key, value, updated_at_ms) VALUES (?, ?, ?, ?) \
            ON CONFLICT (plugin, key) DO UPDATE SET value = excluded.value, updated_at_ms = excluded.updated_at_ms";
        sqlx::query(insert)
            .bind(plugin)
            .bind(key.as_bytes())
            .bind(value)
            .bind(to_millis((self.clock)()))
            .execute(&mut *transaction)
            .await
            .map_err(write)?;
        transaction.commit().await.map_err(write)?;
        Ok(Fits::Yes)
    }

    async fn delete(&self, plugin: &str, key: &str) -> Result<(), Error> {
        let delete = "DELETE FROM plugin_value WHERE plugin = ? AND key = ?";
        let query = sqlx::query(delete).bind(plugin).bind(key.as_bytes());
        query.execute(&self.metadata.pool).await.map_err(write)?;
        Ok(())
    }

    async fn keys(&self, plugin: &str, prefix: &str) -> Result<Vec<String>, Error> {
        let select = "SELECT key FROM plugin_value WHERE plugin = ? AND substr(key, 1, ?) = ? ORDER BY key";
        let rows: Vec<(Vec<u8>,)> = sqlx::query_as(select)
            .bind(plugin)
            .bind(i64::try_from(prefix.len()).unwrap_or(i64::MAX))
            .bind(prefix.as_bytes())
            .fetch_all(&self.metadata.pool)
            .await
            .map_err(read)?;
        let key = |(key,): (Vec<u8>,)| {
            String::from_utf8(key).map_err(|_| read(sqlx::Error::Decode("a plugin's key is not text".into())).into())
        };
        rows.into_iter().map(key).collect()
    }
}

fn read(source: sqlx::Error) -> StoreError {
    StoreError::ReadValues { source }
}

fn write(source: sqlx::Error) -> StoreError {
    StoreError::WriteValues { source }
}
