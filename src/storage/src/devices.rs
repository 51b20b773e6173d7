//! The devices of this server's users.

use crate::{Database, Result, Transaction, statement::statement};

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
