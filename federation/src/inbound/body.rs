//! Bodies of requests, as they are read: what is held of them is bounded before it is known whose they are.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use parley_engine::limits::{ClientAddress, LimitKey};
use quick_cache::sync::Cache;
use ruma::api::error::{ErrorKind, LimitExceededErrorData};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{FederationError, Result};

const KIB: usize = 1024;
/// What bodies may take that nobody has checked yet: of all, and of one address, so that it takes several to keep everybody
/// from being heard. In KiB.
const OF_ALL: usize = 256 * KIB;
const OF_ADDRESS: usize = 64 * KIB;
/// Addresses that are remembered.
const REMEMBERED: usize = 10_000;
/// For all of a body.
const TIMEOUT: Duration = Duration::from_secs(2 * 60);

/// Intake for bodies that nobody has checked yet.
#[derive(Debug)]
pub(crate) struct Intake {
    all: Arc<Semaphore>,
    of_address: usize,
    by_address: Cache<LimitKey, Arc<Semaphore>>,
}

impl Default for Intake {
    fn default() -> Self {
        Self::new(OF_ALL, OF_ADDRESS)
    }
}

/// What a body takes up, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    /// Of each semaphore, what is taken.
    taken: Vec<OwnedSemaphorePermit>,
    kib: usize,
}

impl Intake {
    fn new(of_all: usize, of_address: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(of_all)),
            of_address,
            by_address: Cache::new(REMEMBERED),
        }
    }

    /// Reads a body of `limit` bytes at most, which came from an address. The place is to be kept until it is known whose it
    /// is.
    ///
    /// # Errors
    /// `M_TOO_LARGE`; `M_NOT_JSON` if it breaks off or takes too long; `M_LIMIT_EXCEEDED` if too much is being taken in.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        address: Option<&ClientAddress>,
        body: Body,
        limit: usize,
    ) -> Result<(Bytes, Place)> {
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > limit) {
            return Err(too_large(limit));
        }
        let read = tokio::time::timeout(TIMEOUT, self.read_all(address, body, limit));
        read.await
            .unwrap_or_else(|_| Err(broken("it takes too long")))
    }

    async fn read_all(
        &self,
        address: Option<&ClientAddress>,
        mut body: Body,
        limit: usize,
    ) -> Result<(Bytes, Place)> {
        let mut place = self.place(address);
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| broken(&error.to_string()))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let length = bytes.len().saturating_add(data.len());
            if length > limit {
                return Err(too_large(limit));
            }
            // By what has come, not by what is announced: that would cost nothing.
            place.grow(length)?;
            bytes.extend_from_slice(&data);
        }
        Ok((bytes.freeze(), place))
    }

    /// A place that takes nothing yet.
    fn place(&self, address: Option<&ClientAddress>) -> Place {
        let mut of = vec![Arc::clone(&self.all)];
        if let Some(ClientAddress(address)) = address {
            let fresh =
                || Ok::<_, std::convert::Infallible>(Arc::new(Semaphore::new(self.of_address)));
            let Ok(of_address) = self
                .by_address
                .get_or_insert_with(&LimitKey::from(*address), fresh);
            of.push(of_address);
        }
        // Nothing can always be taken, unless it is closed, which it never is.
        let taken = of
            .into_iter()
            .filter_map(|of| of.try_acquire_many_owned(0).ok());
        Place {
            taken: taken.collect(),
            kib: 0,
        }
    }
}

impl Place {
    /// Takes as much as a body of so many bytes needs.
    fn grow(&mut self, bytes: usize) -> Result<()> {
        let needed = bytes.div_ceil(KIB);
        let more = u32::try_from(needed.saturating_sub(self.kib)).unwrap_or(u32::MAX);
        for taken in &mut self.taken {
            let semaphore = Arc::clone(taken.semaphore());
            let Ok(permit) = semaphore.try_acquire_many_owned(more) else {
                let kind = ErrorKind::LimitExceeded(LimitExceededErrorData::new());
                let message = "too much is being received; try again later";
                return Err(FederationError::new(kind, message));
            };
            taken.merge(permit);
        }
        self.kib = needed.max(self.kib);
        Ok(())
    }
}

fn broken(reason: &str) -> FederationError {
    FederationError::new(
        ErrorKind::NotJson,
        format!("the body could not be read: {reason}"),
    )
}

fn too_large(limit: usize) -> FederationError {
    FederationError::new(
        ErrorKind::TooLarge,
        format!("the body may have at most {limit} bytes"),
    )
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    fn address(last: u8) -> ClientAddress {
        ClientAddress([192, 0, 2, last].into())
    }

    async fn read(intake: &Intake, from: &ClientAddress, kib: usize) -> Result<Place> {
        let body = Body::from(vec![b' '; kib * KIB]);
        let headers = HeaderMap::new();
        let read = intake.read(&headers, Some(from), body, 10 * KIB);
        let (bytes, place) = read.await?;
        assert_eq!(bytes.len(), kib * KIB);
        Ok(place)
    }

    #[tokio::test]
    async fn of_bodies_that_nobody_has_checked_so_much_is_held() {
        let intake = Intake::new(5, 3);
        let (one, two, three) = (address(1), address(2), address(3));
        let status = async |from: &ClientAddress, kib| {
            let refused = read(&intake, from, kib).await.unwrap_err();
            refused.into_response().status().as_u16()
        };
        assert_eq!(status(&one, 11).await, 413);
        let first = read(&intake, &one, 2).await.unwrap();
        assert_eq!(
            status(&one, 2).await,
            429,
            "that is too much of one address"
        );
        let second = read(&intake, &one, 1).await.unwrap();
        let third = read(&intake, &two, 2).await.unwrap();
        assert_eq!(status(&three, 1).await, 429, "that is too much of all");
        // Nothing is held of what was refused.
        drop(second);
        let fourth = read(&intake, &three, 1).await.unwrap();
        drop((first, third, fourth));
        assert_eq!(intake.all.available_permits(), 5);
        read(&intake, &one, 3).await.unwrap();
    }

    #[tokio::test]
    async fn a_body_counts_as_it_comes() {
        let intake = Intake::new(5, 3);
        let mut place = intake.place(Some(&address(1)));
        place.grow(1).unwrap();
        place.grow(KIB).unwrap();
        assert_eq!(intake.all.available_permits(), 4);
        place.grow(2 * KIB + 1).unwrap();
        assert_eq!(intake.all.available_permits(), 2);
        place.grow(4 * KIB).unwrap_err();
        drop(place);
        assert_eq!(intake.all.available_permits(), 5);
    }
}
