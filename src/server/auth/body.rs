//! The body of a change.

use std::marker::PhantomData;

use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaRequest, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde::de::DeserializeOwned;

use super::extract::Policy;
use super::state::AuthState;
use crate::server::http::json;

/// A JSON object as request body, of a caller who still satisfies the policy `P` when the body is
/// there. A client may send the body long after the headers, and its token may be revoked meanwhile.
pub struct AuthorizedBody<P, T>(pub T, PhantomData<P>);

impl<'a, P: Policy, T: Type + DeserializeOwned> ApiExtractor<'a> for AuthorizedBody<P, T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(json::body_meta::<T>())
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<Self::ParamType>,
    ) -> poem::Result<Self> {
        let value = json::read_body(request, body).await;
        let auth = AuthState::from_request(request)?;
        let (claims, _) = P::authenticate(auth, request)?;
        P::authorize(&claims)?;
        Ok(Self(value?, PhantomData))
    }
}
