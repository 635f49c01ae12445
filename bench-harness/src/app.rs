//! The example applications: a book page that asks for details and reviews, and reviews that ask
//! for ratings. Plain HTTP servers that know nothing of a mesh.
//!
//! ```text
//! productpage ─▶ details
//!            └─▶ reviews (v1, v2, v3) ─▶ ratings (v2 and v3 only)
//! ```
//!
//! Every answer names the pod that gave it and the address it was asked from. Paths that end with `/slow` are answered after two
//! seconds.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::http::{Peer, Request, Response, get, serve};

/// How long an application waits for another one.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long an application takes that is asked to be slow.
const SLOW: Duration = Duration::from_secs(2);

/// Which application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The page: asks details and reviews.
    Productpage,
    /// Facts of the book.
    Details,
    /// Opinions; from version v2 on with stars, for which it asks ratings.
    Reviews,
    /// Stars.
    Ratings,
}

/// One application.
#[derive(Clone, Debug, Args)]
pub struct App {
    /// Which application.
    kind: Kind,
    /// The name of the pod, given in every answer.
    #[arg(long, value_name = "NAME")]
    pod: String,
    /// The version: v1, v2 or v3.
    #[arg(long, default_value = "v1")]
    version: String,
    /// Where to listen.
    #[arg(long, default_value = "0.0.0.0:9080")]
    listen: SocketAddr,
    /// Where details answers.
    #[arg(long, value_name = "ADDRESS")]
    details: Option<SocketAddr>,
    /// Where reviews answers.
    #[arg(long, value_name = "ADDRESS")]
    reviews: Option<SocketAddr>,
    /// Where ratings answers.
    #[arg(long, value_name = "ADDRESS")]
    ratings: Option<SocketAddr>,
}

impl App {
    /// Serves for ever.
    pub async fn run(self) -> Result<()> {
        let listener = TcpListener::bind(self.listen)
            .await
            .with_context(|| format!("cannot listen on {}", self.listen))?;
        serve(listener, move |peer, request| {
            let app = self.clone();
            async move { app.answer(peer, &request).await }
        })
        .await;
        Ok(())
    }

    async fn answer(&self, peer: Peer, request: &Request) -> Response {
        let name = format!("{:?}", self.kind).to_lowercase();
        match request.target.as_str() {
            "/health" => Response::json(200, &json!({"pod": self.pod, "status": "healthy"})),
            target if target.trim_start_matches('/').starts_with(&name) => {
                if target.ends_with("/slow") {
                    tokio::time::sleep(SLOW).await;
                }
                let wants_html = request.header("accept").is_some_and(|v| v.contains("text/html"));
                let answer = self.describe(peer).await;
                match answer {
                    Ok(value) if wants_html => Response::new(200, "text/html", html(&value)),
                    Ok(value) => Response::json(200, &value),
                    Err(error) => Response::json(
                        502,
                        &json!({"pod": self.pod, "error": format!("{error:#}")}),
                    ),
                }
            }
            _ => Response::json(404, &json!({"pod": self.pod, "error": "no such page"})),
        }
    }

    async fn describe(&self, peer: Peer) -> Result<Value> {
        let mut answer = json!({
            "pod": self.pod,
            "version": self.version,
            "asked_from": peer.address.ip().to_string(),
        });
        match self.kind {
            Kind::Productpage => {
                let (details, reviews) = tokio::join!(
                    ask("details", self.details, "/details/0"),
                    ask("reviews", self.reviews, "/reviews/0"),
                );
                answer["book"] = "The Comedy of Errors".into();
                answer["details"] = details?;
                answer["reviews"] = reviews?;
            }
            Kind::Details => {
                answer["author"] = "William Shakespeare".into();
                answer["year"] = 1595.into();
                answer["pages"] = 200.into();
            }
            Kind::Reviews => {
                answer["texts"] = json!(["An extremely entertaining play.", "Absolutely fun."]);
                if self.version != "v1" {
                    answer["ratings"] = ask("ratings", self.ratings, "/ratings/0").await?;
                    answer["colour"] = if self.version == "v2" { "black" } else { "red" }.into();
                }
            }
            Kind::Ratings => answer["stars"] = json!([5, 4]),
        }
        Ok(answer)
    }
}

/// Asks another application, on a new connection each time as the simplest clients do.
async fn ask(name: &str, address: Option<SocketAddr>, target: &str) -> Result<Value> {
    let address = address.with_context(|| format!("was not told where {name} is"))?;
    let response = tokio::time::timeout(PATIENCE, get(address, target))
        .await
        .with_context(|| format!("{name} at {address} does not answer"))?
        .with_context(|| format!("cannot ask {name} at {address}"))?;
    let value: Value = serde_json::from_slice(&response.body)
        .with_context(|| format!("{name} at {address} answered {}", response.status))?;
    anyhow::ensure!(response.status == 200, "{name} answered {}: {value}", response.status);
    Ok(value)
}

fn html(page: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut body = format!("<h1>{}</h1>\n", text(&page["book"]));
    for part in ["details", "reviews"] {
        body.push_str(&format!(
            "<h2>{part}</h2><p>from pod {}, which was asked from {}</p>\n<pre>{}</pre>\n",
            text(&page[part]["pod"]),
            text(&page[part]["asked_from"]),
            page[part]
        ));
    }
    format!("<!doctype html><title>{}</title>\n{body}", text(&page["book"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn start(kind: Kind, version: &str, others: [Option<SocketAddr>; 3]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let [details, reviews, ratings] = others;
        let app = App {
            kind,
            pod: format!("{kind:?}-{version}"),
            version: version.to_owned(),
            listen: address,
            details,
            reviews,
            ratings,
        };
        tokio::spawn(serve(listener, move |peer, request| {
            let app = app.clone();
            async move { app.answer(peer, &request).await }
        }));
        address
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_page_gathers_what_the_others_say() {
        let ratings = start(Kind::Ratings, "v1", [None; 3]).await;
        let details = start(Kind::Details, "v1", [None; 3]).await;
        let reviews = start(Kind::Reviews, "v2", [None, None, Some(ratings)]).await;
        let page =
            start(Kind::Productpage, "v1", [Some(details), Some(reviews), Some(ratings)]).await;
        let response = get(page, "/productpage").await.unwrap();
        assert_eq!(response.status, 200);
        let value: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(value["reviews"]["ratings"]["pod"], "Ratings-v1");
        assert_eq!(value["details"]["asked_from"], "127.0.0.1");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_part_that_fails_fails_the_page() {
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let page = start(Kind::Productpage, "v1", [Some(nobody), Some(nobody), None]).await;
        assert_eq!(get(page, "/productpage").await.unwrap().status, 502);
        assert_eq!(get(page, "/other").await.unwrap().status, 404);
    }
}
