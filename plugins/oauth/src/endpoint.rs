//! Requests to the provider's endpoints, performed by the host.
//!
//! `oauth2` builds the grants; this is the HTTP client it is given. The client authenticates
//! each request, and it alone decides what a response means: what reaches `oauth2` is a
//! success, everything else is an [`Error`] already.

use std::pin::Pin;

use oauth2::basic::{
    BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse,
};
use oauth2::url::Url;
use oauth2::{
    AsyncHttpClient, AuthType, Client, EndpointNotSet, EndpointSet, RequestTokenError,
    StandardRevocableToken,
};
use postrider_plugin::wire::{HttpRequest, HttpResponse};
use postrider_plugin::{Error, ErrorKind, Io};
use serde_json::Value;

use crate::form::Form;
use crate::provider::Endpoints;
use crate::refusal;
use crate::settings::Account;
use crate::tokens::Granted;

/// `oauth2`'s client, with the token endpoint known and [`Granted`] as the response.
pub(crate) type GrantClient = Client<
    BasicErrorResponse,
    Granted,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

/// The HTTP client of one flow.
pub(crate) struct Http<'a> {
    pub(crate) io: &'a Io,
    pub(crate) account: &'a Account,
    pub(crate) endpoints: &'a Endpoints,
}

impl Http<'_> {
    /// `oauth2`'s client for these endpoints. It puts `client_id` into the body and knows no
    /// secret: authenticating is this HTTP client's part.
    pub(crate) fn grants(&self) -> GrantClient {
        Client::new(self.account.client_id.clone())
            .set_auth_type(AuthType::RequestBody)
            .set_token_uri(self.endpoints.token.clone())
    }

    /// Posts a form with the client's authentication; gives the response if it is a success.
    pub(crate) async fn post(&self, url: &Url, mut form: Form) -> Result<HttpResponse, Error> {
        let authorization = self
            .account
            .client_auth
            .prove(
                self.io,
                &self.account.client_id,
                &self.endpoints.token,
                &mut form,
            )
            .await?;
        let mut headers = vec![
            ("accept".to_owned(), "application/json".to_owned()),
            (
                "content-type".to_owned(),
                "application/x-www-form-urlencoded".to_owned(),
            ),
        ];
        if let Some(value) = authorization {
            headers.push(("authorization".to_owned(), value.expose().to_owned()));
        }
        let response = self
            .io
            .http(HttpRequest {
                method: "POST".to_owned(),
                url: url.to_string(),
                headers,
                body: Some(form.encode()),
            })
            .await?;
        if response.status == 200 && !reports_error(&response) {
            return Ok(response);
        }
        let who = url.host_str().unwrap_or("the provider");
        Err(refusal::judge(&response, who, self.io.now_ms(), |text| {
            form.scrub(text)
        }))
    }
}

impl<'c> AsyncHttpClient<'c> for Http<'_> {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<oauth2::HttpResponse, Error>> + Send + 'c>>;

    fn call(&'c self, request: oauth2::HttpRequest) -> Self::Future {
        Box::pin(async move {
            let url = Url::parse(&request.uri().to_string())
                .map_err(|_| Error::new(ErrorKind::Internal, "a request without a URL"))?;
            let response = self.post(&url, Form::decode(request.body())).await?;
            if !is_object(&response) {
                let who = url.host_str().unwrap_or("the provider");
                return Err(refusal::unreadable(&response, who));
            }
            // No content type goes along: the body is JSON, whatever the server calls it.
            Ok(oauth2::HttpResponse::new(response.body.0.clone()))
        })
    }
}

/// The error behind an unsuccessful grant. All but the first are responses that passed
/// [`Http`] and yet lack what the endpoint owes; their own words may quote the body.
pub(crate) fn grant_error<T: oauth2::ErrorResponse>(error: RequestTokenError<Error, T>) -> Error {
    match error {
        RequestTokenError::Request(error) => error,
        RequestTokenError::ServerResponse(_)
        | RequestTokenError::Parse(..)
        | RequestTokenError::Other(_) => Error::new(
            ErrorKind::Protocol,
            "the provider's answer lacks a required member, or has one of a wrong type",
        ),
    }
}

/// Some providers report an error with status 200.
fn reports_error(response: &HttpResponse) -> bool {
    match serde_json::from_slice::<Value>(&response.body.0) {
        Ok(body) => body.get("error").is_some_and(Value::is_string),
        Err(_) => false,
    }
}

fn is_object(response: &HttpResponse) -> bool {
    matches!(
        serde_json::from_slice(&response.body.0),
        Ok(Value::Object(_))
    )
}
