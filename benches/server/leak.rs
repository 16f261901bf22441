//! Many short requests, from several clients at once: their answers stay the same, and memory stays flat.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::task::JoinSet;

use crate::client::Client;
use crate::manners::Known;
use crate::report::Report;
use crate::server::Server;
use crate::{Options, Outcome};

pub(crate) async fn run(server: &mut Server, options: &Options, report: &mut Report) -> Outcome<()> {
    let client = Client::new(&server.address)?;
    let known = Arc::new(Known::ask(&client, 4).await?);
    let done = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..options.connections.unwrap_or(8) {
        let (client, known, done, requests) = (client.clone(), known.clone(), done.clone(), options.requests);
        clients.spawn(async move {
            loop {
                let i = done.fetch_add(1, Ordering::Relaxed);
                if i >= requests {
                    return Ok(());
                }
                known[i % known.len()].again(&client, &format!("leak-{i}"), &mut 0).await?;
            }
        });
    }

    // A hundred times over the requests, whatever time they take.
    let mut samples = Vec::new();
    let mut next = 0;
    loop {
        let asked = done.load(Ordering::Relaxed).min(options.requests);
        if asked >= next {
            samples.push(server.memory()?);
            next += (options.requests / 100).max(1);
        }
        match tokio::time::timeout(std::time::Duration::from_millis(2), clients.join_next()).await {
            Ok(Some(client)) => {
                let answered: Outcome<()> = client?;
                if let Err(error) = answered {
                    report.fault(error.to_string());
                }
            }
            Ok(None) => break,
            Err(_) => {}
        }
        if server.has_ended()?.is_some() {
            return Ok(());
        }
    }
    report.number("requests", options.requests);
    report.number("requests_per_second", (options.requests as f64 / start.elapsed().as_secs_f64()).round());
    report.memory(&samples, options.growth_mb);
    Ok(())
}
