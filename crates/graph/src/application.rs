//! App registrations.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::address::{equals, guid, id, with_query};
use crate::client::{Call, Graph};
use crate::credential::{Certificate, Password};
use crate::error::GraphError;
use crate::transport::Method;

/// An app registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Object id: what the other calls want.
    pub id: String,
    /// Client id (`appId`): what sign-ins want.
    pub app_id: String,
    /// The name people see; several may have the same.
    pub display_name: String,
    /// Notes for administrators.
    pub notes: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Whose accounts may sign in: `AzureADMyOrg` is this tenant's alone.
    pub sign_in_audience: Option<String>,
    /// Whether flows without a redirect, such as the device code, go without a credential.
    pub fallback_public_client: bool,
    /// Redirects of the platform for installed programs.
    pub public_redirects: Vec<String>,
    /// Redirects of the web platform, where a client proves itself.
    pub web_redirects: Vec<String>,
    /// The permissions it asks for.
    pub required: Vec<RequiredAccess>,
    /// Its client secrets, which never show.
    pub passwords: Vec<Password>,
    /// Its certificates.
    pub certificates: Vec<Certificate>,
}

/// The permissions of one service that an app asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequiredAccess {
    /// The service's client id, as in [`crate::ids::resource`].
    pub resource_app_id: String,
    /// Which of its permissions.
    pub resource_access: Vec<RequiredPermission>,
}

/// A permission that an app asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequiredPermission {
    /// The permission's id.
    pub id: String,
    /// `Scope` for a delegated permission, `Role` for an application permission.
    #[serde(rename = "type")]
    pub kind: crate::PermissionKind,
}

/// An app registration to be: of this tenant alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewApplication {
    /// The name people see.
    pub display_name: String,
    /// Notes for administrators.
    pub notes: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Whether flows without a redirect go without a credential.
    pub fallback_public_client: bool,
    /// Redirects of the platform for installed programs.
    pub public_redirects: Vec<String>,
    /// Redirects of the web platform.
    pub web_redirects: Vec<String>,
    /// The permissions it asks for.
    pub required: Vec<RequiredAccess>,
}

/// What to change of an app registration. What is `None` stays; a list replaces the whole list,
/// so it must hold what is to be kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplicationPatch {
    /// The name people see.
    pub display_name: Option<String>,
    /// Notes for administrators.
    pub notes: Option<String>,
    /// Tags.
    pub tags: Option<Vec<String>>,
    /// Whose accounts may sign in.
    pub sign_in_audience: Option<String>,
    /// Whether flows without a redirect go without a credential.
    pub fallback_public_client: Option<bool>,
    /// Redirects of the platform for installed programs.
    pub public_redirects: Option<Vec<String>>,
    /// Redirects of the web platform.
    pub web_redirects: Option<Vec<String>>,
    /// The permissions it asks for.
    pub required: Option<Vec<RequiredAccess>>,
}

/// Who may change an app registration besides the administrators.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Owner {
    /// Object id.
    pub id: String,
    /// What it is, as in `#microsoft.graph.user`.
    #[serde(default, rename = "@odata.type")]
    pub kind: Option<String>,
}

const SELECT: &str = "id,appId,displayName,notes,tags,signInAudience,isFallbackPublicClient,\
                      publicClient,web,requiredResourceAccess,passwordCredentials,keyCredentials";

impl Graph {
    /// The app registration with this client id, if this tenant has it.
    pub async fn application(&self, client_id: &str) -> Result<Option<Application>, GraphError> {
        const CALL: Call =
            Call::new("looking up an application by its client id").needs("Application.Read.All");
        let client_id = guid(CALL, client_id)?;
        let found = self
            .applications_where(CALL, &equals(CALL, "appId", client_id)?)
            .await?;
        Ok(found
            .into_iter()
            .find(|app| app.app_id.eq_ignore_ascii_case(client_id)))
    }

    /// The app registrations with exactly this name.
    pub async fn applications_named(&self, name: &str) -> Result<Vec<Application>, GraphError> {
        const CALL: Call =
            Call::new("looking up applications by their name").needs("Application.Read.All");
        let found = self
            .applications_where(CALL, &equals(CALL, "displayName", name)?)
            .await?;
        // Graph compares without case.
        Ok(found
            .into_iter()
            .filter(|app| app.display_name == name)
            .collect())
    }

    /// The same, asked again for half a minute while there is none: for an application that an
    /// interrupted run may have created a moment ago.
    pub async fn applications_named_soon(
        &self,
        name: &str,
    ) -> Result<Vec<Application>, GraphError> {
        let mut pauses = self.until_it_shows();
        loop {
            let found = self.applications_named(name).await?;
            if !found.is_empty() || !pauses.next().await {
                return Ok(found);
            }
        }
    }

    /// The app registration with this object id.
    pub async fn application_object(&self, object_id: &str) -> Result<Application, GraphError> {
        const CALL: Call = Call::new("reading an application").needs("Application.Read.All");
        let url = self.at(CALL, &["applications", id(CALL, object_id)?])?;
        let url = with_query(url, &[("$select", SELECT)]);
        let app: Wire = self.read(CALL, url).await?;
        Ok(app.into())
    }

    /// The same, asked again for half a minute while `shows` is not content with it: for a
    /// credential that an interrupted run may have made a moment ago, since Graph's reads lag
    /// behind its writes. What came last is returned, content or not.
    pub async fn application_showing(
        &self,
        object_id: &str,
        shows: impl Fn(&Application) -> bool + Send,
    ) -> Result<Application, GraphError> {
        let mut pauses = self.until_it_shows();
        loop {
            let app = self.application_object(object_id).await?;
            if shows(&app) || !pauses.next().await {
                return Ok(app);
            }
        }
    }

    /// Registers an application.
    pub async fn create_application(
        &self,
        new: &NewApplication,
    ) -> Result<Application, GraphError> {
        const CALL: Call = Call::new("creating an application")
            .needs("Application.ReadWrite.All")
            .creating();
        let mut body = json!({
            "displayName": new.display_name,
            "signInAudience": "AzureADMyOrg",
            "isFallbackPublicClient": new.fallback_public_client,
            "publicClient": { "redirectUris": new.public_redirects },
            "web": { "redirectUris": new.web_redirects },
            "requiredResourceAccess": new.required,
            "tags": new.tags,
        });
        if let Some(notes) = &new.notes {
            body["notes"] = json!(notes);
        }
        let url = self.at(CALL, &["applications"])?;
        let made: Wire = self.make(CALL, url, body).await?;
        self.note_fresh(&[&made.id, &made.app_id]);
        Ok(made.into())
    }

    /// Changes an app registration.
    pub async fn update_application(
        &self,
        object_id: &str,
        patch: &ApplicationPatch,
    ) -> Result<(), GraphError> {
        const CALL: Call = Call::new("changing an application").needs("Application.ReadWrite.All");
        let url = self.at(CALL, &["applications", id(CALL, object_id)?])?;
        self.act(CALL, Method::Patch, url, Some(patch.body())).await
    }

    /// Deletes an app registration. One that is not there is deleted.
    pub async fn delete_application(&self, object_id: &str) -> Result<(), GraphError> {
        const CALL: Call = Call::new("deleting an application").needs("Application.ReadWrite.All");
        let url = self.at(CALL, &["applications", id(CALL, object_id)?])?;
        self.remove(CALL, url).await
    }

    /// The owners of an app registration.
    pub async fn owners(&self, object_id: &str) -> Result<Vec<Owner>, GraphError> {
        const CALL: Call =
            Call::new("reading the owners of an application").needs("Application.Read.All");
        let url = self.at(CALL, &["applications", id(CALL, object_id)?, "owners"])?;
        let url = with_query(url, &[("$select", "id")]);
        self.list(CALL, url, &[]).await
    }

    /// Makes a user or service principal an owner of an app registration.
    ///
    /// # Errors
    ///
    /// A conflict if it is one already.
    pub async fn add_owner(&self, object_id: &str, owner: &str) -> Result<(), GraphError> {
        const CALL: Call = Call::new("adding an owner to an application")
            .needs("Application.ReadWrite.All and Directory.Read.All")
            .making();
        let url = self.at(
            CALL,
            &["applications", id(CALL, object_id)?, "owners", "$ref"],
        )?;
        let owner = self.at(CALL, &["directoryObjects", id(CALL, owner)?])?;
        let body = json!({ "@odata.id": owner.as_str() });
        self.act(CALL, Method::Post, url, Some(body)).await
    }

    async fn applications_where(
        &self,
        call: Call,
        filter: &str,
    ) -> Result<Vec<Application>, GraphError> {
        let url = self.at(call, &["applications"])?;
        let url = with_query(url, &[("$filter", filter), ("$select", SELECT)]);
        let found: Vec<Wire> = self.list_expecting(call, url).await?;
        Ok(found.into_iter().map(Application::from).collect())
    }
}

impl ApplicationPatch {
    fn body(&self) -> Value {
        let mut body = Map::new();
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        };
        set("displayName", self.display_name.as_ref().map(|v| json!(v)));
        set("notes", self.notes.as_ref().map(|v| json!(v)));
        set("tags", self.tags.as_ref().map(|v| json!(v)));
        set(
            "signInAudience",
            self.sign_in_audience.as_ref().map(|v| json!(v)),
        );
        set(
            "isFallbackPublicClient",
            self.fallback_public_client.map(|v| json!(v)),
        );
        let redirects = |uris: &Vec<String>| json!({ "redirectUris": uris });
        set(
            "publicClient",
            self.public_redirects.as_ref().map(redirects),
        );
        set("web", self.web_redirects.as_ref().map(redirects));
        set(
            "requiredResourceAccess",
            self.required.as_ref().map(|v| json!(v)),
        );
        Value::Object(body)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: String,
    app_id: String,
    #[serde(default)]
    display_name: Option<String>,
    #[serde(default)]
    notes: Option<String>,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    sign_in_audience: Option<String>,
    #[serde(default)]
    is_fallback_public_client: Option<bool>,
    #[serde(default)]
    public_client: Option<Platform>,
    #[serde(default)]
    web: Option<Platform>,
    #[serde(default)]
    required_resource_access: Option<Vec<RequiredAccess>>,
    #[serde(default)]
    password_credentials: Option<Vec<Password>>,
    #[serde(default)]
    key_credentials: Option<Vec<Certificate>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Platform {
    #[serde(default)]
    redirect_uris: Vec<String>,
}

impl From<Wire> for Application {
    fn from(wire: Wire) -> Self {
        let redirects =
            |platform: Option<Platform>| platform.map_or_else(Vec::new, |p| p.redirect_uris);
        Self {
            id: wire.id,
            app_id: wire.app_id,
            display_name: wire.display_name.unwrap_or_default(),
            notes: wire.notes,
            tags: wire.tags.unwrap_or_default(),
            sign_in_audience: wire.sign_in_audience,
            fallback_public_client: wire.is_fallback_public_client.unwrap_or(false),
            public_redirects: redirects(wire.public_client),
            web_redirects: redirects(wire.web),
            required: wire.required_resource_access.unwrap_or_default(),
            passwords: wire.password_credentials.unwrap_or_default(),
            certificates: wire.key_credentials.unwrap_or_default(),
        }
    }
}
