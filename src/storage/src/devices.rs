//! The devices of this server's users.

use crate::{Database, Result, Transaction, accounts, statement::statement};

/// A device of a user.
#[derive(Clone, Debug)]
pub struct DeviceRow {
    /// Its number.
    pub nid: i64,
    /// Its ID, unique among the devices of its user.
    pub device_id: String,
    /// What its user calls it.
    pub display_name: Option<String>,
    /// When it was first logged in.
    pub created_at: i64,
    /// When it last sent a request, give or take a minute.
    pub last_seen_at: Option<i64>,
    /// The address it sent that from.
    pub last_seen_address: Option<String>,
}

type Columns = (
    i64,
    String,
    Option<String>,
    i64,
    Option<i64>,
    Option<String>,
);

impl From<Columns> for DeviceRow {
    fn from(row: Columns) -> Self {
        Self {
            nid: row.0,
            device_id: row.1,
            display_name: row.2,
            created_at: row.3,
            last_seen_at: row.4,
            last_seen_address: row.5,
        }
    }
}

/// When and from where a device was seen.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// The number of the device.
    pub device_nid: i64,
    /// When.
    pub at: i64,
    /// From where, if known.
    pub address: Option<String>,
}

/// All devices of a user, in the order in which they were made.
pub async fn list(database: &Database, user_nid: i64) -> Result<Vec<DeviceRow>> {
    let rows: Vec<Columns> = statement(
        "SELECT nid, device_id, display_name, created_at, last_seen_at, last_seen_address \
         FROM devices WHERE user_nid = $1 ORDER BY nid",
    )
    .bind(user_nid)
    .all(database)
    .await?;
    Ok(rows.into_iter().map(DeviceRow::from).collect())
}

/// One device of a user, if there is one of that ID.
pub async fn find(
    database: &Database,
    user_nid: i64,
    device_id: &str,
) -> Result<Option<DeviceRow>> {
    let row: Option<Columns> = statement(
        "SELECT nid, device_id, display_name, created_at, last_seen_at, last_seen_address \
         FROM devices WHERE user_nid = $1 AND device_id = $2",
    )
    .bind(user_nid)
    .bind(device_id)
    .optional(database)
    .await?;
    Ok(row.map(DeviceRow::from))
}

/// Notes when devices were seen. A device that is gone is passed over.
pub async fn record_sightings(
    transaction: &mut Transaction,
    sightings: Vec<Sighting>,
) -> Result<()> {
    for sighting in sightings {
        statement("UPDATE devices SET last_seen_at = $2, last_seen_address = $3 WHERE nid = $1")
            .bind(sighting.device_nid)
            .bind(sighting.at)
            .bind(sighting.address)
            .run(transaction)
            .await?;
    }
    Ok(())
}

/// The number of a device, if the user has one of that ID.
pub async fn find_in(
    transaction: &mut Transaction,
    user_nid: i64,
    device_id: &str,
) -> Result<Option<i64>> {
    let row: Option<(i64,)> =
        statement("SELECT nid FROM devices WHERE user_nid = $1 AND device_id = $2")
            .bind(user_nid)
            .bind(device_id)
            .optional_in(transaction)
            .await?;
    Ok(row.map(|(nid,)| nid))
}

/// How many devices a user has. As long as the transaction lasts, others wait for it to count them.
pub async fn count(transaction: &mut Transaction, user_nid: i64) -> Result<i64> {
    accounts::hold(transaction, user_nid).await?;
    let (count,): (i64,) = statement("SELECT COUNT(*) FROM devices WHERE user_nid = $1")
        .bind(user_nid)
        .one_in(transaction)
        .await?;
    Ok(count)
}

/// Makes a device and gives its number.
pub async fn insert(
    transaction: &mut Transaction,
    user_nid: i64,
    device_id: &str,
    display_name: Option<&str>,
    created_at: i64,
) -> Result<i64> {
    let (nid,): (i64,) = statement(
        "INSERT INTO devices (user_nid, device_id, display_name, created_at) \
         VALUES ($1, $2, $3, $4) RETURNING nid",
    )
    .bind(user_nid)
    .bind(device_id)
    .bind(display_name)
    .bind(created_at)
    .one_in(transaction)
    .await?;
    Ok(nid)
}

/// Changes what a device is called; whether there is one.
pub async fn rename(
    transaction: &mut Transaction,
    user_nid: i64,
    device_id: &str,
    display_name: Option<&str>,
) -> Result<bool> {
    let changed =
        statement("UPDATE devices SET display_name = $3 WHERE user_nid = $1 AND device_id = $2")
            .bind(user_nid)
            .bind(device_id)
            .bind(display_name)
            .run(transaction)
            .await?;
    Ok(changed == 1)
}

/// Number and ID of the user's devices among `device_ids`.
pub async fn find_many(
    transaction: &mut Transaction,
    user_nid: i64,
    device_ids: Vec<String>,
) -> Result<Vec<(i64, String)>> {
    statement(
        "SELECT nid, device_id FROM devices WHERE user_nid = $1 AND device_id IN ({texts $2}) ORDER BY nid",
    )
    .bind(user_nid)
    .bind(device_ids)
    .all_in(transaction)
    .await
}

/// Number and ID of all devices of a user, except one.
pub async fn find_all_except(
    transaction: &mut Transaction,
    user_nid: i64,
    kept: Option<i64>,
) -> Result<Vec<(i64, String)>> {
    statement("SELECT nid, device_id FROM devices WHERE user_nid = $1 AND nid <> $2 ORDER BY nid")
        .bind(user_nid)
        .bind(kept.unwrap_or_default())
        .all_in(transaction)
        .await
}

/// Removes devices, and the pushers that they made. Their tokens have to be removed beside it, by [`crate::tokens::delete_of_devices`].
pub async fn delete(transaction: &mut Transaction, device_nids: Vec<i64>) -> Result<()> {
    statement("DELETE FROM pushers WHERE device_nid IN ({ints $1})")
        .bind(device_nids.clone())
        .run(transaction)
        .await?;
    statement("DELETE FROM devices WHERE nid IN ({ints $1})")
        .bind(device_nids)
        .run(transaction)
        .await?;
    Ok(())
}
