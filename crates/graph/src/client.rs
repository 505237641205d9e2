//! The client: sends a request as often as is sensible, and believes no more than it must.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::address::{contains, join};
use crate::answer::{Page, parse, refusal};
use crate::credential::Certificates;
use crate::error::{GraphError, GraphErrorKind};
use crate::transport::{Method, Request, Response, Transport};

/// Queries with a cast and `$count` want it (Microsoft Learn, "Advanced query capabilities"): it
/// admits an answer that lags behind.
pub(crate) const EVENTUAL: (&str, &str) = ("ConsistencyLevel", "eventual");

/// How often one request is sent again because the service asked for time.
const AGAIN: u32 = 5;
/// The longest that one `Retry-After` is obeyed here; beyond it the caller is told.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// The longest that one call waits altogether.
const ALTOGETHER: Duration = Duration::from_mins(2);
/// Pauses while an object that was just made does not show everywhere yet. Replicas take
/// seconds as a rule; half a minute is what setup programs in public give them.
const UNTIL_IT_SHOWS: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(8),
    Duration::from_secs(8),
];
/// The most pages of one list, and the most entries.
const PAGES: usize = 100;
const ENTRIES: usize = 10_000;
/// How many objects are remembered as just made.
const FRESH: usize = 32;
/// No access token is longer.
const TOKEN_OCTETS: usize = 64 << 10;

/// A client of one Graph with one access token.
pub struct Graph {
    base: Url,
    token: SecretString,
    transport: Arc<dyn Transport>,
    /// Ids of objects that were just made: asked for too soon, Graph says that there are none.
    fresh: Mutex<Vec<String>>,
    pub(crate) certificates: Certificates,
}

/// What is being called, for errors and for whether it may be sent twice.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) doing: &'static str,
    pub(crate) needs: Option<&'static str>,
    pub(crate) creates: bool,
    once: bool,
    denied_at_first: bool,
}

impl Call {
    pub(crate) const fn new(doing: &'static str) -> Self {
        Self {
            doing,
            needs: None,
            creates: false,
            once: false,
            denied_at_first: false,
        }
    }

    /// The least permission that Microsoft Learn lists for the call, delegated.
    pub(crate) const fn needs(self, permission: &'static str) -> Self {
        Self {
            needs: Some(permission),
            ..self
        }
    }

    /// It makes something.
    pub(crate) const fn making(self) -> Self {
        Self {
            creates: true,
            ..self
        }
    }

    /// It makes something; sent twice, it makes two.
    pub(crate) const fn creating(self) -> Self {
        Self {
            once: true,
            ..self.making()
        }
    }

    /// Denied for an object that was just made, it is asked again.
    pub(crate) const fn denied_at_first(self) -> Self {
        Self {
            denied_at_first: true,
            ..self
        }
    }

    pub(crate) fn malformed(self, message: &str) -> GraphError {
        GraphError {
            may_have_happened: self.creates,
            ..GraphError::ours(GraphErrorKind::Malformed, self.doing, message)
        }
    }
}

impl Graph {
    /// A client of the Graph at `base`, as in `https://graph.microsoft.com`, with an access
    /// token for it.
    ///
    /// # Errors
    ///
    /// [`GraphErrorKind::Invalid`] if `base` is not an `https` address of a host, or `token`
    /// cannot be one.
    pub fn new(
        base: Url,
        token: SecretString,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, GraphError> {
        let invalid =
            |message| GraphError::ours(GraphErrorKind::Invalid, "reaching Graph", message);
        let plain = base.username().is_empty()
            && base.password().is_none()
            && base.query().is_none()
            && base.fragment().is_none();
        if base.scheme() != "https" || !base.has_host() || !plain {
            return Err(invalid("its address is not an https address"));
        }
        let octets = token.expose_secret().as_bytes();
        let sendable = octets.iter().all(u8::is_ascii_graphic);
        if octets.is_empty() || octets.len() > TOKEN_OCTETS || !sendable {
            return Err(invalid("what was given is not an access token"));
        }
        Ok(Self {
            base,
            token,
            transport,
            fresh: Mutex::new(Vec::new()),
            certificates: Certificates::default(),
        })
    }

    /// The address it was made with.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Says that the objects with these ids were made a moment ago, by an earlier run perhaps.
    /// Requests that name them are then sent again for half a minute when Graph does not know
    /// them yet. What this client makes it remembers by itself.
    pub fn note_fresh(&self, ids: &[&str]) {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            if fresh.len() == FRESH {
                fresh.remove(0);
            }
            // A short one would be found in any address.
            if id.len() >= 16 {
                fresh.push((*id).to_owned());
            }
        }
    }

    pub(crate) fn at(&self, call: Call, segments: &[&str]) -> Result<Url, GraphError> {
        join(call, &self.base, segments)
    }

    /// Reads one object.
    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        call: Call,
        url: Url,
    ) -> Result<T, GraphError> {
        let response = self.exchange(call, Method::Get, url, &[], None).await?;
        parse(call, response)
    }

    /// Creates an object and reads it.
    pub(crate) async fn make<T: DeserializeOwned>(
        &self,
        call: Call,
        url: Url,
        body: Value,
    ) -> Result<T, GraphError> {
        let response = self
            .exchange(call, Method::Post, url, &[], Some(body))
            .await?;
        parse(call, response)
    }

    /// Does something that has no answer.
    pub(crate) async fn act(
        &self,
        call: Call,
        method: Method,
        url: Url,
        body: Option<Value>,
    ) -> Result<(), GraphError> {
        self.exchange(call, method, url, &[], body).await.map(drop)
    }

    /// Deletes the object at `url`. One that is not there is deleted.
    pub(crate) async fn remove(&self, call: Call, url: Url) -> Result<(), GraphError> {
        let address = url.to_string();
        let gone = match self.act(call, Method::Delete, url, None).await {
            Err(error) if error.kind == GraphErrorKind::NotFound => Ok(()),
            other => other,
        };
        if gone.is_ok() {
            self.fresh
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|id| !contains(&address, id));
        }
        gone
    }

    /// Reads a list, all its pages.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        call: Call,
        url: Url,
        headers: &[(&'static str, &'static str)],
    ) -> Result<Vec<T>, GraphError> {
        let mut entries = Vec::new();
        let mut next = Some(url);
        let mut read: Vec<Url> = Vec::new();
        while let Some(url) = next.take() {
            if read.len() == PAGES || read.contains(&url) {
                return Err(call.malformed("a list without an end"));
            }
            let response = self
                .exchange(call, Method::Get, url.clone(), headers, None)
                .await?;
            let page: Page<T> = parse(call, response)?;
            entries.extend(page.value);
            if entries.len() > ENTRIES {
                return Err(call.malformed("a list too long to be one"));
            }
            next = match page.next {
                Some(link) => Some(self.next_page(call, &link)?),
                None => None,
            };
            read.push(url);
        }
        Ok(entries)
    }

    /// Reads a list that names an object made a moment ago, so an empty one is asked for again.
    pub(crate) async fn list_expecting<T: DeserializeOwned>(
        &self,
        call: Call,
        url: Url,
    ) -> Result<Vec<T>, GraphError> {
        let mut pauses = self.until_it_shows();
        loop {
            let found = self.list(call, url.clone(), &[]).await?;
            if !found.is_empty() || !self.names_fresh(&url, None) || !pauses.next().await {
                return Ok(found);
            }
        }
    }

    /// Waits for what was just written to show.
    pub(crate) fn until_it_shows(&self) -> Pauses<'_> {
        Pauses {
            transport: &*self.transport,
            left: UNTIL_IT_SHOWS.iter(),
        }
    }

    /// The token follows a link only to where it was meant for.
    fn next_page(&self, call: Call, link: &str) -> Result<Url, GraphError> {
        let foreign = || call.malformed("a list that goes on at another address");
        let url = Url::parse(link).map_err(|_| foreign())?;
        let start = self.at(call, &[])?;
        let ours = url.origin() == start.origin()
            && url.username().is_empty()
            && url.password().is_none()
            && url
                .path()
                .strip_prefix(start.path())
                .is_some_and(|rest| rest.starts_with('/'));
        if ours { Ok(url) } else { Err(foreign()) }
    }

    /// Sends a request until there is an answer to keep: a success, or a refusal that another
    /// try would not change.
    async fn exchange(
        &self,
        call: Call,
        method: Method,
        url: Url,
        headers: &[(&'static str, &'static str)],
        body: Option<Value>,
    ) -> Result<Response, GraphError> {
        let fresh = self.names_fresh(&url, body.as_ref());
        let mut patience = Patience::default();
        loop {
            let request = Request {
                method,
                url: url.clone(),
                headers: headers.to_vec(),
                body: body.clone(),
                bearer: self.token.clone(),
            };
            let response = self
                .transport
                .send(request)
                .await
                .map_err(|error| GraphError::transport(call.doing, call.creates, error))?;
            if (200..300).contains(&response.status) {
                return Ok(response);
            }
            let error = refusal(call, &response, self.token.expose_secret());
            match patience.before_another(call, fresh, &error) {
                Some(pause) => self.transport.pause(pause).await,
                None => return Err(error),
            }
        }
    }

    fn names_fresh(&self, url: &Url, body: Option<&Value>) -> bool {
        let fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        if fresh.is_empty() {
            return false;
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        fresh
            .iter()
            .any(|id| contains(url.as_str(), id) || contains(&body, id))
    }
}

/// Without the token.
impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph")
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

/// The pauses of [`UNTIL_IT_SHOWS`], one after the other.
pub(crate) struct Pauses<'a> {
    transport: &'a dyn Transport,
    left: std::slice::Iter<'static, Duration>,
}

impl Pauses<'_> {
    /// Waits; `false`, at once, when that was done often enough.
    pub(crate) async fn next(&mut self) -> bool {
        match self.left.next() {
            Some(pause) => {
                self.transport.pause(*pause).await;
                true
            }
            None => false,
        }
    }
}

/// How much waiting one call has left.
#[derive(Default)]
struct Patience {
    again: u32,
    shown: usize,
    waited: Duration,
}

impl Patience {
    /// How long to wait before the request is sent again; none if it is not.
    fn before_another(&mut self, call: Call, fresh: bool, error: &GraphError) -> Option<Duration> {
        let pause = match error.kind {
            GraphErrorKind::Throttled => self.backoff(error.retry_after)?,
            // A service that names a time has not begun. One that does not may have: sending
            // what creates again could make two.
            GraphErrorKind::Unavailable if error.retry_after.is_some() || !call.once => {
                self.backoff(error.retry_after)?
            }
            // The object may be there and not show yet.
            _ if fresh && may_not_show_yet(call, error) => {
                let pause = UNTIL_IT_SHOWS.get(self.shown)?;
                self.shown += 1;
                *pause
            }
            _ => return None,
        };
        self.waited += pause;
        (self.waited <= ALTOGETHER).then_some(pause)
    }

    fn backoff(&mut self, asked: Option<Duration>) -> Option<Duration> {
        if self.again == AGAIN {
            return None;
        }
        let pause = asked.unwrap_or(Duration::from_secs(1 << self.again));
        self.again += 1;
        (pause <= LONGEST_PAUSE).then_some(pause)
    }
}

/// How Graph speaks of an object that one of its replicas has not seen: 404, or 400 where the
/// request names it, as in "does not reference a valid application object" (detail
/// `NoBackingApplicationObject`; microsoftgraph/msgraph-sdk-dotnet#3108, Azure/ARO-HCP#6325).
/// A service principal is now and then denied in the seconds after its application was made
/// (hashicorp/terraform-provider-azuread#581).
fn may_not_show_yet(call: Call, error: &GraphError) -> bool {
    match error.kind {
        GraphErrorKind::NotFound => true,
        GraphErrorKind::Rejected => {
            error.status == Some(400) && error.code.as_deref() == Some("Request_BadRequest")
        }
        GraphErrorKind::Denied { .. } => call.denied_at_first,
        _ => false,
    }
}
