//! Jobs cancelled at random moments, queued and running, through `/cancel` and by closing their connection, beside
//! streams that must not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::client::{Answer, Client};
use crate::manners::{Known, named};
use crate::report::Report;
use crate::server::Server;
use crate::{Options, Outcome};

/// How a job was cancelled.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Request,
    ClosedConnection,
}

/// A job that was cancelled before it ended.
struct Cancelled {
    way: Way,
    /// Whether it had begun.
    ran: bool,
    /// From the cancellation to `error CANCELLED`, or to the id being free.
    took: Duration,
}

pub(crate) async fn run(server: &mut Server, options: &Options, report: &mut Report) -> Outcome<()> {
    let client = Client::new(&server.address)?;
    let known = Known::ask(&client, 48).await?;
    let (_, health) = client.get("/health").await?;
    let context =
        serde_json::from_str::<Value>(&health)?["context_length"].as_u64().ok_or("no context_length")?;
    // Four at a time fill the pages of one context, so that others wait.
    let victim =
        Arc::new(json!({"prompt": "Once upon a time", "temperature": 1.0, "repetition_penalty": 1.1,
        "seed": 4, "max_tokens": context.min(2048) / 4 - 8}));
    let quiet = Instant::now();
    client.complete(&named(&victim, "alone"), &mut 0).await?;
    let lasts = quiet.elapsed();

    let over = Arc::new(AtomicBool::new(false));
    let mut witnesses = JoinSet::new();
    for (i, known) in known.into_iter().enumerate() {
        let (client, over) = (client.clone(), over.clone());
        witnesses.spawn(async move {
            let mut completions = 0;
            while !over.load(Ordering::Relaxed) {
                known.again(&client, &format!("witness-{i}-{completions}"), &mut 0).await?;
                completions += 1;
            }
            Ok(completions)
        });
    }
    let left = Arc::new(AtomicUsize::new(options.cancels));
    let mut cancellers = JoinSet::new();
    for number in 0..options.connections.unwrap_or(16) {
        let (client, victim, left) = (client.clone(), victim.clone(), left.clone());
        let mut random = Pcg64::seed_from_u64(options.seed << 16 | number as u64);
        cancellers.spawn(async move {
            let mut cancelled = Vec::new();
            let mut attempt = 0;
            while left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                loop {
                    attempt += 1;
                    let job_id = format!("victim-{number}-{attempt}");
                    let way = if random.next_u32() % 2 == 0 { Way::Request } else { Way::ClosedConnection };
                    let moment = lasts.mul_f64(f64::from(random.next_u32()) / f64::from(u32::MAX));
                    if let Some(one) = cancel(&client, &named(&victim, &job_id), &job_id, way, moment).await?
                    {
                        cancelled.push(one);
                        break;
                    }
                }
            }
            Ok(cancelled)
        });
    }

    let mut all = Vec::new();
    while let Some(canceller) = cancellers.join_next().await {
        let cancelled: Outcome<Vec<Cancelled>> = canceller?;
        match cancelled {
            Ok(cancelled) => all.extend(cancelled),
            Err(error) => report.fault(error.to_string()),
        }
    }
    over.store(true, Ordering::Relaxed);
    let mut undisturbed = 0;
    while let Some(witness) = witnesses.join_next().await {
        let completions: Outcome<usize> = witness?;
        match completions {
            Ok(completions) => undisturbed += completions,
            Err(error) => report.fault(error.to_string()),
        }
    }
    if undisturbed == 0 {
        report.fault("no other stream was completed meanwhile".to_owned());
    }
    if all.len() < options.cancels {
        report.fault(format!("{} of {} jobs were cancelled", all.len(), options.cancels));
    }
    report.number("victim_alone_ms", lasts.as_millis() as u64);
    report.number("equal_answers_meanwhile", undisturbed);
    for (name, way, ran) in [
        ("cancel_running", Way::Request, true),
        ("cancel_queued", Way::Request, false),
        ("close_running", Way::ClosedConnection, true),
        ("close_queued", Way::ClosedConnection, false),
    ] {
        let of = all.iter().filter(|one| (one.way, one.ran) == (way, ran));
        report.times(name, &of.map(|one| one.took).collect::<Vec<_>>());
    }
    Ok(())
}

/// Begins a job and cancels it after `moment`; `None` if it ended first.
async fn cancel(
    client: &Client,
    request: &Value,
    job_id: &str,
    way: Way,
    moment: Duration,
) -> Outcome<Option<Cancelled>> {
    let mut events = client.begin(request, &mut 0).await?;
    let (mut ran, mut ended) = (false, false);
    let read = async {
        while let Some((name, _)) = events.next().await? {
            ran |= name == "started";
            ended |= name == "end";
        }
        Outcome::Ok(())
    };
    if let Ok(read) = tokio::time::timeout(moment, read).await {
        read?;
        return if ended { Ok(None) } else { Err(format!("{job_id} ended before it was cancelled").into()) };
    }

    let start = Instant::now();
    match way {
        Way::Request => {
            let (sent, rest) =
                tokio::join!(client.cancel(job_id), async { (events.rest().await, start.elapsed()) });
            sent?;
            let (rest, took) = (rest.0?, rest.1);
            match (rest.last.0.as_str(), rest.last.1["code"].as_str()) {
                ("error", Some("CANCELLED")) => Ok(Some(Cancelled { way, ran, took })),
                ("end", _) => Ok(None),
                _ => Err(format!("{job_id} was cancelled and ended with {:?}", rest.last).into()),
            }
        }
        Way::ClosedConnection => {
            drop(events);
            let probe = json!({"job_id": job_id, "prompt": "a", "max_tokens": 1});
            // Whoever is refused for another reason than its id would have been taken as far as the id goes.
            while matches!(client.execute(&probe).await?, Answer::Refused(409, _)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(Some(Cancelled { way, ran, took: start.elapsed() }))
        }
    }
}
